/** What can be done with members and loans. */
import { Type } from 'typebox'
import { command, on, one } from '@bifold/cqrs'
import { book } from '../books/shared.ts'
import { dayOf, daysAfter } from './days.ts'
import { BookIsWithdrawn, BookNotFound, LoanIsOverdue, LoanIsRecalled, LoanIsReturned, LoanNotFound, MemberIsSuspended, MemberNotFound, RenewedTooOften, TooManyLoans } from './errors.ts'
import { loan, renewalsMax, type Loan, LoanOpened, LoanRecalled, LoanRenewed, LoanReturned } from './loan.ts'
import { loansMax, member, type Member, MemberBorrowed, MemberDetails, MemberJoined, MemberReinstated, MemberReturned, MemberSuspended } from './member.ts'

const loanDays = 21
const recallDays = 7 // left to bring back what is recalled

const Id = Type.String({ format: 'uuid' })
const Nothing = Type.Object({}, { additionalProperties: false })

export const joinMember = command(member, {
  method: 'POST',
  url: '/lending/members',
  summary: 'Join as a member',
  input: MemberDetails,
  example: { name: 'Fanny Price' },
  decide: (_, details) => [MemberJoined(details)]
})

export const suspendMember = command(member, {
  method: 'POST',
  url: '/lending/members/:id/suspend',
  summary: 'Suspend a member, who can then borrow and renew nothing',
  input: Nothing,
  example: {},
  decide: (state, _, { id }) => joined(state, id).suspended ? [] : [MemberSuspended({})]
})

export const reinstateMember = command(member, {
  method: 'POST',
  url: '/lending/members/:id/reinstate',
  summary: 'End the suspension of a member',
  input: Nothing,
  example: {},
  decide: (state, _, { id }) => joined(state, id).suspended ? [MemberReinstated({})] : []
})

export const borrowBook = command(loan, {
  method: 'POST',
  url: '/lending/loans',
  summary: 'Borrow a book: opens a loan',
  input: Type.Object({ memberId: Id, bookId: Id }, { additionalProperties: false }),
  example: { memberId: '019a0000-0000-7000-8000-000000000001', bookId: '019a0000-0000-7000-8000-000000000002' },
  sees: (_, { memberId, bookId }) => ({ member: one(member, memberId), book: one(book, bookId) }),
  decide: (_, __, { id, now, seen: { member, book } }) => {
    if (inGoodStanding(member.state, member.id).loans.length >= loansMax) throw new TooManyLoans(member.id)
    if (book.state.status === 'absent') throw new BookNotFound(book.id)
    if (book.state.status === 'withdrawn') throw new BookIsWithdrawn(book.id)
    return [
      LoanOpened({ memberId: member.id, bookId: book.id, openedOn: dayOf(now), dueOn: daysAfter(now, loanDays) }),
      on(member, MemberBorrowed({ loanId: id }))
    ]
  }
})

export const renewLoan = command(loan, {
  method: 'POST',
  url: '/lending/loans/:id/renew',
  summary: 'Keep the book for another while, at most twice',
  input: Nothing,
  example: {},
  sees: ({ memberId }) => ({ member: one(member, memberId) }),
  decide: (state, _, { id, now, seen: { member } }) => {
    const { dueOn, renewals, recalledOn } = open(state, id)
    inGoodStanding(member.state, member.id)
    if (recalledOn !== undefined) throw new LoanIsRecalled(id)
    if (dueOn < dayOf(now)) throw new LoanIsOverdue(id, dueOn)
    if (renewals >= renewalsMax) throw new RenewedTooOften(id)
    return [LoanRenewed({ dueOn: daysAfter(now, loanDays) })]
  }
})

export const recallLoan = command(loan, {
  method: 'POST',
  url: '/lending/loans/:id/recall',
  summary: 'Ask for the book back before the loan is due',
  input: Nothing,
  example: {},
  decide: (state, _, { id, now }) => {
    const { dueOn, recalledOn } = open(state, id)
    const soon = daysAfter(now, recallDays)
    return recalledOn === undefined ? [LoanRecalled({ recalledOn: dayOf(now), dueOn: dueOn < soon ? dueOn : soon })] : []
  }
})

export const returnBook = command(loan, {
  method: 'POST',
  url: '/lending/loans/:id/return',
  summary: 'Bring the book back: ends the loan',
  input: Nothing,
  example: {},
  sees: ({ memberId }) => ({ member: one(member, memberId) }),
  decide: (state, _, { id, now, seen: { member } }) => {
    open(state, id)
    return [LoanReturned({ returnedOn: dayOf(now) }), on(member, MemberReturned({ loanId: id }))]
  }
})

function joined (member: Member, id: string): Member {
  if (member.name === '') throw new MemberNotFound(id)
  return member
}

function inGoodStanding (member: Member, id: string): Member {
  if (joined(member, id).suspended) throw new MemberIsSuspended(id)
  return member
}

function open (loan: Loan, id: string): Loan {
  if (loan.memberId === '') throw new LoanNotFound(id)
  if (loan.returnedOn !== undefined) throw new LoanIsReturned(id)
  return loan
}
