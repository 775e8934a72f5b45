/** The read model of both domains: each member with the current loans and the titles of their books. */
import { lendingV1 } from '@bifold/proto'
import { note, projection, update, type Change, type NoteChange, type Notes } from '@bifold/cqrs'
import type { BookEvent } from '../books/shared.ts'
import type { LoanEvent } from './loan.ts'
import type { MemberEvent } from './member.ts'

interface CurrentLoan {
  readonly bookId: string
  /** Missing until the book is known here. */
  readonly title?: string
  readonly openedOn: string
  readonly dueOn: string
  readonly renewals: number
  readonly recalledOn?: string
}

/** A page may begin with a loan: the member's own fields are missing until their first event is here. */
export interface PageView {
  readonly _id: string
  /** The member's. */
  readonly version?: number
  readonly name?: string
  readonly suspended?: boolean
  /** By the loan's id. */
  readonly loans?: Readonly<Record<string, CurrentLoan>>
}

/** Of a book: its title, and on whose page it stands, by the loan's id. */
interface Known { readonly _id: string, readonly title?: string, readonly holders: Readonly<Record<string, string>> }

type Event = BookEvent | LoanEvent | MemberEvent
type Changes = (Change<PageView> | NoteChange<Known>)[]

const knownOf = (id: string, notes: Notes<Known>): Known => notes.get(id) ?? { _id: id, holders: {} }

const shown = ({ id, version, record: { name, suspended } }: MemberEvent): Changes => [update<PageView>(id, { set: { version, name, suspended } })]

const titled = ({ id, record: { title } }: BookEvent, notes: Notes<Known>): Changes => {
  const known = knownOf(id, notes)
  return [note({ ...known, title }), ...Object.entries(known.holders).map(([loanId, memberId]) => update<PageView>(memberId, { set: { [`loans.${loanId}.title`]: title } }))]
}

const current = ({ id, record: { memberId, bookId, ...loan } }: LoanEvent, notes: Notes<Known>): Changes => {
  const { returnedOn, ...current } = loan
  const known = knownOf(bookId, notes)
  if (returnedOn !== undefined) {
    const { [id]: _, ...holders } = known.holders
    return [note({ ...known, holders }), update<PageView>(memberId, { unset: [`loans.${id}`] })]
  }
  const title = known.title === undefined ? {} : { title: known.title }
  return [note({ ...known, holders: { ...known.holders, [id]: memberId } }), update<PageView>(memberId, { set: { [`loans.${id}`]: { bookId, ...title, ...current } } })]
}

export const memberPages = projection<Event, PageView, Known>({
  collection: 'memberPages',
  indexes: [],
  notes: ({ id, record }) => 'bookId' in record ? [record.bookId] : 'authors' in record ? [id] : [],
  on: {
    MemberJoined: shown,
    MemberSuspended: shown,
    MemberReinstated: shown,
    MemberBorrowed: shown,
    MemberReturned: shown,
    LoanOpened: current,
    LoanRenewed: current,
    LoanRecalled: current,
    LoanReturned: current,
    BookAdded: titled,
    BookRevised: titled,
    BookWithdrawn: titled
  }
})

/** The page as the service answers it; undefined for somebody who is no member yet, as far as is known here. */
export function pageMessage ({ _id: id, version, name, suspended, loans = {} }: PageView): lendingV1.MemberPage | undefined {
  if (name === undefined) return undefined
  const current = Object.entries(loans).sort(([a], [b]) => a < b ? -1 : 1).map(([loanId, loan]) => ({ loanId, ...loan }))
  return lendingV1.MemberPage.fromPartial({ id, version: version!, name, suspended: suspended!, loans: current })
}
