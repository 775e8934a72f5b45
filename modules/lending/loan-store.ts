/** Loans in PostgreSQL: one row each, those of returned books included. */
import { sql, type Kysely, type RawBuilder } from 'kysely'
import type { Store, Versioned } from '@bifold/cqrs'
import { BookIsOut, BookNotFound, MemberNotFound, RenewedTooOften } from './errors.ts'
import type { Loan } from './loan.ts'
import { loans as migrations } from './migrations.ts'

interface LoanRow {
  id: string
  version: number
  memberId: string
  bookId: string
  openedOn: string
  dueOn: string
  renewals: number
  recalledOn: string | null
  returnedOn: string | null
}

export const store: Store<Loan> = {
  load: async (tx, ids, { lock }) => await rows(tx, sql`where id = any(${ids}::uuid[]) order by id ${lock ? sql`for update` : sql``}`),

  // By book: the loans are locked, but the books of new ones may be wanted by another gateway too, and so in one order.
  save: (tx, states) => sql`
    insert into loans (id, version, member_id, book_id, opened_on, due_on, renewals, recalled_on, returned_on)
    select id, version, member_id, book_id, opened_on, due_on, renewals, recalled_on, returned_on
    from json_populate_recordset(null::loans, ${JSON.stringify(states.map(toRow))}::json) order by book_id
    on conflict (id) do update set
      version = excluded.version, due_on = excluded.due_on, renewals = excluded.renewals,
      recalled_on = excluded.recalled_on, returned_on = excluded.returned_on
  `.compile(tx),

  page: async (db, after, limit) => await rows(db, sql`${after === undefined ? sql`` : sql`where id > ${after}`} order by id limit ${limit}`),

  unique: {
    loans_open_unique: {
      value: ({ bookId, returnedOn }) => bookId !== '' && returnedOn === undefined ? bookId : undefined,
      taken: bookId => new BookIsOut(bookId),
      async holder (db, bookId) {
        const { rows: [loan] } = await sql<{ id: string }>`select id from loans where book_id = ${bookId} and returned_on is null`.execute(db)
        return loan?.id
      }
    }
  },
  constraints: {
    loans_member: ({ state }) => new MemberNotFound(state.memberId),
    loans_book: ({ state }) => new BookNotFound(state.bookId),
    loans_renewals_max: ({ id }) => new RenewedTooOften(id)
  },
  migrations
}

/** The days as text: as dates, they would be midnights of wherever this runs. */
async function rows (db: Kysely<never>, which: RawBuilder<unknown>): Promise<Versioned<Loan>[]> {
  const { rows } = await sql<LoanRow>`
    select id, version, member_id, book_id, opened_on::text, due_on::text, renewals, recalled_on::text, returned_on::text from loans ${which}
  `.execute(db)
  return rows.map(fromRow)
}

const toRow = ({ id, version, state: { memberId, bookId, openedOn, dueOn, renewals, recalledOn, returnedOn } }: Versioned<Loan>) =>
  ({ id, version, member_id: memberId, book_id: bookId, opened_on: openedOn, due_on: dueOn, renewals, recalled_on: recalledOn, returned_on: returnedOn })

const fromRow = ({ id, version, recalledOn, returnedOn, ...loan }: LoanRow): Versioned<Loan> =>
  ({ id, version, state: { ...loan, ...recalledOn === null ? {} : { recalledOn }, ...returnedOn === null ? {} : { returnedOn } } })
