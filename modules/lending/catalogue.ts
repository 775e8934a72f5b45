/** The read model of both domains: each listed book with whether it can be borrowed, and how often it was. */
import { lendingV1 } from '@bifold/proto'
import { insert, note, projection, remove, replace, type Change, type NoteChange, type Notes } from '@bifold/cqrs'
import type { BookEvent } from '../books/shared.ts'
import type { LoanEvent } from './loan.ts'

export interface EntryView {
  readonly _id: string
  /** The book's. */
  readonly version: number
  readonly title: string
  readonly authors: readonly string[]
  readonly available: boolean
  readonly loans: number
  /** Of the loan that is open. */
  readonly dueOn?: string
}

/**
 * All that is known of a book, from which its entry follows: so it does not matter which comes first, the book or its loans, or a
 * loan before the end of the one before.
 */
interface Known {
  readonly _id: string
  readonly book?: { readonly version: number, readonly title: string, readonly authors: readonly string[] }
  readonly withdrawn: boolean
  readonly loans: number
  /** When each open loan is due, by its id. */
  readonly open: Readonly<Record<string, string>>
}

type Event = BookEvent | LoanEvent

const bookOf = ({ id, record }: Event): string => 'bookId' in record ? record.bookId : id

const learn = (event: Event, notes: Notes<Known>, change: (known: Known) => Partial<Known>): (Change<EntryView> | NoteChange<Known>)[] => {
  const id = bookOf(event)
  const before = notes.get(id) ?? { _id: id, withdrawn: false, loans: 0, open: {} }
  const known = { ...before, ...change(before) }
  return [note(known), ...entry(known, before.book === undefined)]
}

const entry = ({ _id, book, withdrawn, loans, open }: Known, isNew: boolean): Change<EntryView>[] => {
  if (book === undefined) return []
  if (withdrawn) return [remove(_id)]
  const [dueOn] = Object.values(open).sort()
  const view = { _id, ...book, available: dueOn === undefined, loans, ...dueOn === undefined ? {} : { dueOn } }
  return [isNew ? insert(view) : replace(view)]
}

const described = ({ version, record: { title, authors } }: BookEvent) => ({ book: { version, title, authors } })
const due = ({ id, record: { dueOn } }: LoanEvent) => ({ open }: Known) => ({ open: { ...open, [id]: dueOn } })

export const lendingCatalogue = projection<Event, EntryView, Known>({
  collection: 'lendingCatalogue',
  // Both orders of ListCatalogueEntries: of all, and of what can be borrowed or not.
  indexes: [{ title: 1, _id: 1 }, { available: 1, title: 1, _id: 1 }],
  message: view => lendingV1.CatalogueEntry.encode(entryMessage(view)).finish(),
  notes: event => [bookOf(event)],
  on: {
    BookAdded: (event, notes) => learn(event, notes, () => described(event)),
    BookRevised: (event, notes) => learn(event, notes, () => described(event)),
    BookWithdrawn: (event, notes) => learn(event, notes, () => ({ ...described(event), withdrawn: true })),
    LoanOpened: (event, notes) => learn(event, notes, known => ({ ...due(event)(known), loans: known.loans + 1 })),
    LoanRenewed: (event, notes) => learn(event, notes, due(event)),
    LoanRecalled: (event, notes) => learn(event, notes, due(event)),
    LoanReturned: (event, notes) => learn(event, notes, ({ open: { [event.id]: _, ...open } }) => ({ open }))
  }
})

/** The entry as the service answers it. */
export const entryMessage = ({ _id: id, version, title, authors, available, loans, dueOn }: EntryView): lendingV1.CatalogueEntry =>
  lendingV1.CatalogueEntry.fromPartial({ id, version, title, authors: [...authors], available, loanCount: loans, dueOn })
