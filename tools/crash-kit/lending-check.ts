/** What may not be in the events of lending, whatever crashed; and what its read models are to be, by SQL. */
import { sql } from 'kysely'
import type { Db } from '@bifold/postgres'
import type { Row } from '../compare.ts'
import { loansMax } from './lending.ts'

/** As PostgreSQL has it. */
export interface Event { readonly id: string, readonly version: number, readonly type: string, readonly data: Readonly<Record<string, unknown>> }

interface Loan { readonly bookId: string, readonly memberId: string, readonly types: string[] }

const count = (types: readonly string[], type: string): number => types.filter(one => one === type).length

function loansIn (events: readonly Event[]): Map<string, Loan> {
  const loans = new Map<string, Loan>()
  for (const { id, type, data } of events) if (type === 'LoanOpened') loans.set(id, { bookId: String(data['bookId']), memberId: String(data['memberId']), types: [] })
  for (const { id, type } of events) loans.get(id)?.types.push(type)
  return loans
}

/** A withdrawn book that is out is recalled, once; who was quicker in bringing it back may have been asked for it, or not. */
export function wrongRecalls (events: readonly Event[]): string[] {
  const withdrawn = new Set(events.filter(({ type }) => type === 'BookWithdrawn').map(({ id }) => id))
  return [...loansIn(events)].flatMap(([id, { bookId, types }]) => {
    const recalls = count(types, 'LoanRecalled')
    const [least, most] = withdrawn.has(bookId) ? [types.includes('LoanReturned') ? 0 : 1, 1] : [0, 0]
    return recalls < least || recalls > most ? [`loan ${id} of ${withdrawn.has(bookId) ? 'the withdrawn' : 'the'} book ${bookId} has ${recalls} recalls`] : []
  })
}

/** The loan and its member are changed by one command: what the one has, the other has too, and once. */
export function halfDone (events: readonly Event[]): string[] {
  const ofMembers = Map.groupBy(events.filter(({ type }) => type === 'MemberBorrowed' || type === 'MemberReturned'), ({ data }) => String(data['loanId']))
  const loans = loansIn(events)
  const unknown = [...ofMembers.keys()].filter(id => !loans.has(id)).map(id => `loan ${id} is its member's, and was never opened`)
  return [...unknown, ...[...loans].flatMap(([id, { memberId, types }]) => {
    const own = (ofMembers.get(id) ?? []).filter(event => event.id === memberId).map(({ type }) => type)
    return ([['LoanOpened', 'MemberBorrowed'], ['LoanReturned', 'MemberReturned']] as const).filter(([of, and]) => count(types, of) > 1 || count(types, of) !== count(own, and))
      .map(([of, and]) => `loan ${id} has ${count(types, of)} ${of}, and its member ${count(own, and)} ${and}`)
  })]
}

/** Books that are out twice, and members who had more loans than one may have, at any time of theirs. */
export function lentTooOften (events: readonly Event[]): string[] {
  const out = Map.groupBy([...loansIn(events)].filter(([, { types }]) => !types.includes('LoanReturned')), ([, { bookId }]) => bookId)
  const has = new Map<string, number>()
  const tooMany: string[] = []
  for (const { id, version, type } of events.toSorted((a, b) => a.version - b.version)) {
    const more = type === 'MemberBorrowed' ? 1 : type === 'MemberReturned' ? -1 : 0
    const loans = (has.get(id) ?? 0) + more
    has.set(id, loans)
    if (more > 0 && loans > loansMax) tooMany.push(`member ${id} has ${loans} loans at version ${version}`)
  }
  return [...[...out].filter(([, { length }]) => length > 1).map(([id, { length }]) => `book ${id} is out ${length} times`), ...tooMany]
}

/** The two read models that are no aggregate's own: what PostgreSQL makes of them, and how a document shows it. */
export const joined: readonly { readonly name: string, readonly rows: (db: Db) => AsyncGenerator<Row, void, void>, readonly shown?: (document: Row) => Row }[] = [{
  name: 'lendingCatalogue',
  rows: db => rows(db, sql`
    select books.id, books.version, title, authors, count(loans.id) as loans, count(loans.id) filter (where returned_on is null) = 0 as available,
      min(due_on) filter (where returned_on is null)::text as due_on
    from books left join loans on book_id = books.id where not withdrawn group by books.id order by books.id`)
}, {
  name: 'memberPages',
  rows: db => rows(db, sql`
    select id, version, name, suspended, (
      select coalesce(jsonb_object_agg(loans.id, jsonb_strip_nulls(jsonb_build_object(
        'bookId', book_id, 'title', title, 'openedOn', opened_on, 'dueOn', due_on, 'renewals', renewals, 'recalledOn', recalled_on
      ))), '{}') from loans join books on books.id = book_id where member_id = members.id and returned_on is null
    ) as loans
    from members order by id`),
  shown: ({ loans = {}, ...page }) => ({ loans, ...page }) // who has no loans may have the field or not
}]

async function * rows (db: Db, statement: ReturnType<typeof sql>): AsyncGenerator<Row, void, void> {
  for (const { id, ...fields } of (await statement.execute(db)).rows as (Row & { id: string })[]) {
    yield { _id: id, ...Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null)) } // what is not there is no field of a document
  }
}
