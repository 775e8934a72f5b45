/** Lending in the load: members who join, borrow, renew and return, are suspended, and whose books are withdrawn while they have them. */
import { withdraw, type Book } from './books.ts'
import { advance, chance, command, expect, read, type Client } from './client.ts'

interface Member { readonly id: string, version: number, seen: number, suspended: boolean, loans: number }
interface Loan { readonly id: string, version: number, seen: number, renewals: number, readonly member: Member, readonly book: Book }

/** What a client knows of those whom it serves. */
export interface Desk { readonly members: Member[], readonly loans: Loan[] }

export const loansMax = 5 // of one member, as the rule has it
const renewalsMax = 2 // of one loan
const membersMax = 5 // of each client: more come than are served on, since some have their hands full of withdrawn books
const keptOfHundred = 70 // withdrawn books that nobody brings back: for each of them there is to be a recall

/** One thing done for a member. */
export async function lend (self: Client, { members, loans }: Desk, own: readonly Book[]) {
  const { random, shared } = self
  const dice = random.between(1, 100)
  if (dice <= 10 || members.length === 0) await join(self, members)
  else if (dice <= 17) await changeStanding(self, members.find(({ suspended }) => suspended) ?? random.of(members))
  else if (dice <= 60 || loans.length === 0) await borrow(self, loans, random.of(members), random.of(chance(self, 20) && shared.length > 0 ? shared : own))
  else if (dice <= 75) await giveBack(self, loans, random.of(loans))
  else if (dice <= 82) await renew(self, random.of(loans))
  else if (dice <= 93) await withdrawLent(self, loans)
  else if (dice <= 96) await read(self, '/lending/loans', random.of(loans))
  else await read(self, '/lending/member-pages', random.of(members))
}

async function join (self: Client, members: Member[]) {
  const answer = await command(self, 'join', '', { name: `Member ${self.random.between(0, 1e9)}` })
  if (answer === undefined) return
  expect(self, answer.version === 1, `a new member has version ${answer.version}`)
  members.push({ ...answer, seen: 0, suspended: false, loans: 0 })
  members.splice(0, members.length - membersMax)
}

async function changeStanding (self: Client, member: Member) {
  const kind = member.suspended ? 'reinstate' : 'suspend'
  const answer = await command(self, kind, `/${member.id}/${kind}`, {})
  if (answer === undefined) return
  advance(self, member, answer)
  member.suspended = !member.suspended
}

async function borrow (self: Client, loans: Loan[], member: Member, book: Book) {
  const { out, shared } = self
  const isShared = shared.includes(book)
  const must = [
    ...member.suspended ? ['LENDING_MEMBER_SUSPENDED'] : [],
    ...member.loans >= loansMax ? ['LENDING_TOO_MANY_LOANS'] : [],
    ...book.withdrawn ? ['LENDING_BOOK_WITHDRAWN'] : [],
    ...!isShared && out.has(book) ? ['LENDING_BOOK_IS_OUT'] : []
  ]
  const answer = await command(self, 'borrow', '', { memberId: member.id, bookId: book.id }, { must, may: isShared ? ['LENDING_BOOK_IS_OUT'] : [] })
  if (answer === undefined) return
  expect(self, answer.version === 1, `a new loan has version ${answer.version}`)
  expect(self, !out.has(book), `${book.id} is out twice, the second time as loan ${answer.id}`)
  out.add(book)
  member.version++
  member.loans++
  loans.push({ ...answer, seen: 0, renewals: 0, member, book })
}

async function giveBack (self: Client, loans: Loan[], loan: Loan) {
  const { member, book } = loan
  self.out.delete(book) // from now on perhaps
  loans.splice(loans.indexOf(loan), 1)
  const answer = await command(self, 'return', `/${loan.id}/return`, {})
  if (answer === undefined) return
  advance(self, loan, answer, recalls(book))
  member.version++
  member.loans--
}

async function renew (self: Client, loan: Loan) {
  const { member, book } = loan
  const must = [...member.suspended ? ['LENDING_MEMBER_SUSPENDED'] : [], ...loan.renewals >= renewalsMax ? ['LENDING_RENEWED_TOO_OFTEN'] : []]
  const answer = await command(self, 'renew', `/${loan.id}/renew`, {}, { must, may: book.withdrawn ? ['LENDING_LOAN_RECALLED'] : [] })
  if (answer === undefined) return
  advance(self, loan, answer, recalls(book))
  loan.renewals++
}

/** How many events a process may have added meanwhile. */
const recalls = ({ withdrawn }: Book): number => withdrawn ? 1 : 0

async function withdrawLent (self: Client, loans: Loan[]) {
  const own = loans.filter(({ book }) => !book.withdrawn && !self.shared.includes(book))
  if (own.length === 0) return
  const loan = self.random.of(own)
  await withdraw(self, loan.book)
  if (chance(self, keptOfHundred)) loans.splice(loans.indexOf(loan), 1)
}
