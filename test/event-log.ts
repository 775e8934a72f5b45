/** An event log for a test: a database of its own, to insert events into as a gateway does. */
import { sql, type Kysely } from 'kysely'
import type { Test } from 'tap'
import { modules } from '@bifold/modules'
import { connect, migrate } from '@bifold/postgres'
import { stores } from './pipeline.ts'

/** The id of a test's aggregate. */
export const idOf = (n: number): string => `019a0000-0000-7000-8000-${n.toString(16).padStart(12, '0')}`

export async function eventLog (t: Test, dir?: string) {
  const settings = await stores(t, dir)
  const db = connect(settings.POSTGRES_URL, 6)
  t.teardown(async () => await db.destroy())
  await migrate(db, modules)
  /** Events of one aggregate, with these versions, in one transaction. */
  const insertOf = async (n: number, versions: readonly number[], tx: Kysely<any> = db) => {
    await sql`insert into events (aggregate, aggregate_id, version, type, value, request_id, traceparent, time)
      select 'books', ${idOf(n)}, version, 'BookRevised', json_build_object('task', 'update', 'data', json_build_object('id', ${idOf(n)}::text, 'version', version)), 'r', '', clock_timestamp()
      from unnest(${versions}::int[]) as version`.execute(tx)
  }
  return { settings, db, insertOf, insert: async (...versions: number[]) => await insertOf(0, versions) }
}
