/** The rules of lending, without I/O, and the conformance of the module. */
import t from 'tap'
import { given, on, one } from '@bifold/cqrs'
import { testModule } from '@bifold/cqrs/conformance'
import { BookAdded, BookWithdrawn } from '../books/book.ts'
import { books } from '../books/index.ts'
import { book } from '../books/shared.ts'
import { borrowBook, joinMember, recallLoan, reinstateMember, renewLoan, returnBook, suspendMember } from './commands.ts'
import { BookIsWithdrawn, BookNotFound, LoanIsOverdue, LoanIsRecalled, LoanIsReturned, LoanNotFound, MemberIsSuspended, MemberNotFound, RenewedTooOften, TooManyLoans } from './errors.ts'
import lock from './events.lock.json' with { type: 'json' }
import { lending } from './index.ts'
import { LoanOpened, LoanRecalled, LoanRenewed, LoanReturned } from './loan.ts'
import { member, MemberBorrowed, MemberJoined, MemberReinstated, MemberReturned, MemberSuspended } from './member.ts'

const loanId = '019a0000-0000-7000-8000-000000000000' // as `given` has it
const [memberId, bookId] = ['019a0000-0000-7000-8000-00000000000a', '019a0000-0000-7000-8000-00000000000b']
const [fanny, emma] = [one(member, memberId), one(book, bookId)]
const ids = { memberId, bookId }

const joined = MemberJoined({ name: 'Fanny Price' })
const added = BookAdded({ title: 'Emma', authors: ['Jane Austen'] })
const opened = LoanOpened({ ...ids, openedOn: '2026-01-01', dueOn: '2026-01-22' })
const lent = MemberBorrowed({ loanId })

const on20 = { now: new Date('2026-01-20T12:00:00Z') }

testModule(t, lending, lock, [books])

t.test('a member joins, and is suspended and reinstated once', async () => {
  given().when(joinMember, { name: 'Fanny Price' }).then(joined)
  given(joined).when(suspendMember, {}).then(MemberSuspended({}))
  given(joined, MemberSuspended({})).when(suspendMember, {}).then()
  given(joined, MemberSuspended({})).when(reinstateMember, {}).then(MemberReinstated({}))
  given(joined).when(reinstateMember, {}).then()
  for (const command of [suspendMember, reinstateMember]) given().when(command, {}).throws(MemberNotFound)
})

t.test('a book is borrowed for 21 days, and the member knows the loan', async () => {
  given().and(fanny, joined).and(emma, added).when(borrowBook, ids).then(opened, on(fanny, lent))
  given().and(fanny, joined).and(emma, added).when(borrowBook, { memberId: memberId.toUpperCase(), bookId: bookId.toUpperCase() }).then(opened, on(fanny, lent))
})

t.test('nobody borrows who is no member, or is suspended', async () => {
  given().and(emma, added).when(borrowBook, ids).throws(MemberNotFound)
  given().and(fanny, joined, MemberSuspended({})).and(emma, added).when(borrowBook, ids).throws(MemberIsSuspended)
  given().and(fanny, joined, MemberSuspended({}), MemberReinstated({})).and(emma, added).when(borrowBook, ids).then(opened, on(fanny, lent))
})

t.test('a member has five loans at most', async () => {
  const borrowed = [1, 2, 3, 4, 5].map(n => MemberBorrowed({ loanId: `019a0000-0000-7000-8000-00000000010${n}` }))
  given().and(fanny, joined, ...borrowed.slice(0, 4)).and(emma, added).when(borrowBook, ids).then(opened, on(fanny, lent))
  given().and(fanny, joined, ...borrowed).and(emma, added).when(borrowBook, ids).throws(TooManyLoans)
  given().and(fanny, joined, ...borrowed, MemberReturned(borrowed[2]!.data)).and(emma, added).when(borrowBook, ids).then(opened, on(fanny, lent))
})

t.test('a book that is unknown or withdrawn cannot be borrowed', async () => {
  given().and(fanny, joined).when(borrowBook, ids).throws(BookNotFound)
  given().and(fanny, joined).and(emma, added, BookWithdrawn({})).when(borrowBook, ids).throws(BookIsWithdrawn)
})

t.test('a loan is renewed for 21 days from now, twice at most', async () => {
  const renewed = LoanRenewed({ dueOn: '2026-02-10' })
  given(opened).and(fanny, joined, lent).when(renewLoan, {}, on20).then(renewed)
  given(opened, renewed).and(fanny, joined, lent).when(renewLoan, {}, on20).then(renewed)
  given(opened, renewed, renewed).and(fanny, joined, lent).when(renewLoan, {}, on20).throws(RenewedTooOften)
})

t.test('a loan is not renewed when it is overdue or recalled, nor for who is suspended', async () => {
  given(opened).and(fanny, joined, lent).when(renewLoan, {}, { now: new Date('2026-01-22T23:59:59Z') }).then(LoanRenewed({ dueOn: '2026-02-12' }))
  given(opened).and(fanny, joined, lent).when(renewLoan, {}, { now: new Date('2026-01-23T00:00:00Z') }).throws(LoanIsOverdue)
  given(opened, LoanRecalled({ recalledOn: '2026-01-05', dueOn: '2026-01-12' })).and(fanny, joined, lent).when(renewLoan, {}).throws(LoanIsRecalled)
  given(opened).and(fanny, joined, lent, MemberSuspended({})).when(renewLoan, {}, on20).throws(MemberIsSuspended)
})

t.test('a recall leaves a week at most, and is made once', async () => {
  given(opened).when(recallLoan, {}).then(LoanRecalled({ recalledOn: '2026-01-01', dueOn: '2026-01-08' }))
  given(opened).when(recallLoan, {}, on20).then(LoanRecalled({ recalledOn: '2026-01-20', dueOn: '2026-01-22' }))
  given(opened, LoanRecalled({ recalledOn: '2026-01-01', dueOn: '2026-01-08' })).when(recallLoan, {}).then()
})

t.test('a book that is returned is no loan any more', async () => {
  given(opened).and(fanny, joined, lent).when(returnBook, {}, on20).then(LoanReturned({ returnedOn: '2026-01-20' }), on(fanny, MemberReturned({ loanId })))
  given(opened).and(fanny, joined, lent, MemberSuspended({})).when(returnBook, {}, on20).then(LoanReturned({ returnedOn: '2026-01-20' }), on(fanny, MemberReturned({ loanId })))
  const returned = given(opened, LoanReturned({ returnedOn: '2026-01-20' })).and(fanny, joined)
  for (const command of [renewLoan, recallLoan, returnBook]) returned.when(command, {}).throws(LoanIsReturned)
  for (const command of [renewLoan, recallLoan, returnBook]) given().when(command, {}).throws(LoanNotFound)
})
