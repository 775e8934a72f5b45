/** What the events of lending are found to break. */
import t from 'tap'
import { halfDone, lentTooOften, wrongRecalls, type Event } from './lending-check.ts'

const of = (id: string, ...events: readonly (readonly [type: string, data?: Event['data']])[]): Event[] => events.map(([type, data = {}], index) => ({ id, version: index + 1, type, data }))
const opened = (bookId: string) => ['LoanOpened', { bookId, memberId: 'member' }] as const
const borrowed = (loanId: string) => ['MemberBorrowed', { loanId }] as const
const returned = (loanId: string) => ['MemberReturned', { loanId }] as const

const withdrawn = of('book', ['BookAdded'], ['BookWithdrawn'])
const times = (count: number) => Array.from({ length: count }, (_, n) => borrowed(`loan ${n}`))

t.test('a withdrawn book that is out is recalled once; one that came back, perhaps', async t => {
  const right = [of('loan', opened('book'), ['LoanRecalled']), of('loan', opened('book'), ['LoanReturned']), of('loan', opened('book'), ['LoanRecalled'], ['LoanReturned'])]
  for (const loan of right) t.same(wrongRecalls([...withdrawn, ...loan]), [])
  t.same(wrongRecalls([...withdrawn, ...of('loan', opened('book'), ['LoanRenewed'])]), ['loan loan of the withdrawn book book has 0 recalls'])
  t.same(wrongRecalls([...withdrawn, ...of('loan', opened('book'), ['LoanRecalled'], ['LoanRecalled'], ['LoanReturned'])]), ['loan loan of the withdrawn book book has 2 recalls'])
  t.same(wrongRecalls(of('loan', opened('book'), ['LoanRecalled'])), ['loan loan of the book book has 1 recalls'])
})

t.test('a loan and its member have the same, and once', async t => {
  const loan = of('loan', opened('book'), ['LoanReturned'])
  t.same(halfDone([...loan, ...of('member', ['MemberJoined'], borrowed('loan'), returned('loan'))]), [])
  t.same(halfDone([...loan, ...of('member', ['MemberJoined'], borrowed('loan'))]), ['loan loan has 1 LoanReturned, and its member 0 MemberReturned'])
  t.same(halfDone([...loan, ...of('member', borrowed('loan'), borrowed('loan'), returned('loan'))]), ['loan loan has 1 LoanOpened, and its member 2 MemberBorrowed'])
  t.same(halfDone(of('member', borrowed('loan'))), ['loan loan is its member\'s, and was never opened'])
})

t.test('no book is out twice, and no member has more than five loans at any time', async t => {
  t.same(lentTooOften([...of('one', opened('book'), ['LoanReturned']), ...of('two', opened('book')), ...of('member', ...times(5), returned('loan 0'), borrowed('loan 5'))]), [])
  t.same(lentTooOften([...of('one', opened('book')), ...of('two', opened('book'))]), ['book book is out 2 times'])
  t.same(lentTooOften(of('member', ...times(6), returned('loan 0'))), ['member member has 6 loans at version 6'])
})
