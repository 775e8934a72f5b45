/** Members in PostgreSQL: one row each. */
import { sql, type Kysely } from 'kysely'
import type { Store, Versioned } from '@bifold/cqrs'
import { TooManyLoans } from './errors.ts'
import type { Member } from './member.ts'
import { members as migrations } from './migrations.ts'

interface MemberRow extends Member { id: string, version: number }
interface Tables { members: MemberRow }

export const store: Store<Member> = {
  async load (tx, ids, { lock }) {
    const rows = await (tx as unknown as Kysely<Tables>).selectFrom('members').selectAll()
      .where(sql<boolean>`id = any(${ids}::uuid[])`).orderBy('id').$if(lock, query => query.forUpdate()).execute()
    return rows.map(fromRow)
  },

  save: (tx, states) => sql`
    insert into members (id, version, name, suspended, loans)
    select id, version, name, suspended, loans from json_populate_recordset(null::members, ${JSON.stringify(states.map(toRow))}::json) order by id
    on conflict (id) do update set version = excluded.version, name = excluded.name, suspended = excluded.suspended, loans = excluded.loans
  `.compile(tx),

  async page (db, after, limit) {
    const rows = await (db as unknown as Kysely<Tables>).selectFrom('members').selectAll()
      .$if(after !== undefined, query => query.where('id', '>', after!)).orderBy('id').limit(limit).execute()
    return rows.map(fromRow)
  },

  unique: {},
  constraints: { members_loans_max: ({ id }) => new TooManyLoans(id) },
  migrations
}

const toRow = ({ id, version, state }: Versioned<Member>) => ({ id, version, ...state })

const fromRow = ({ id, version, ...state }: MemberRow): Versioned<Member> => ({ id, version, state })
