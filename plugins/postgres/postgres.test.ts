/** Migrations against the real PostgreSQL. */
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { sql } from 'kysely'
import { modules } from '@bifold/modules'
import { stores, until } from '@bifold/test'
import { connect, isOutage, migrate, slotName } from './index.ts'

t.test('several apps may migrate at once; each step is done once', async t => {
  const { POSTGRES_URL } = await stores(t)
  const dbs = Array.from({ length: 4 }, () => connect(POSTGRES_URL, 2))
  t.teardown(async () => await Promise.all(dbs.map(async db => await db.destroy())))
  const done = await Promise.all(dbs.map(async db => await migrate(db, modules)))
  t.same(done.flat().sort(), ['0001-events', '0002-idempotency-keys', '0003-old-idempotency-keys', 'books-0001-books'])
  const { rows } = await sql`select plugin from pg_replication_slots where slot_name = ${await slotName(dbs[0]!)}`.execute(dbs[0]!)
  t.same(rows, [{ plugin: 'pgoutput' }], 'the WAL is kept from the first event on')
})

t.test('the WAL is kept before there is a table to write to', async t => {
  const { POSTGRES_URL } = await stores(t)
  const [db, other] = [connect(POSTGRES_URL, 2), connect(POSTGRES_URL, 1)]
  t.teardown(async () => await Promise.all([db.destroy(), other.destroy()]))
  const there = async () => (await sql<{ there: boolean }>`select to_regclass('events') is not null as there`.execute(db)).rows[0]!.there
  // The slot waits for transactions that are open: time enough to look.
  let migrated: Promise<unknown> | undefined
  await other.transaction().execute(async tx => {
    await sql`select pg_current_xact_id()`.execute(tx)
    migrated = migrate(db, modules)
    await until(async () => (await sql`select from pg_replication_slots where slot_name = ${await slotName(db)}`.execute(tx)).rows.length === 1, 'the slot to be begun')
    await setTimeout(300)
    t.equal(await there(), false)
  })
  await migrated
  t.equal(await there(), true)
})

t.test('a store declares what its unique indexes guard, and nothing else', async t => {
  const { POSTGRES_URL } = await stores(t)
  const db = connect(POSTGRES_URL, 1)
  t.teardown(async () => await db.destroy())
  await migrate(db, modules)
  for (const { name, store } of modules.flatMap(({ aggregates }) => aggregates)) {
    const { rows } = await sql<{ index: string }>`
      select relname as index from pg_index join pg_class on oid = indexrelid
      where indrelid = ${name}::regclass and indisunique and not indisprimary order by relname
    `.execute(db)
    t.same(Object.keys(store.unique).sort(), rows.map(({ index }) => index), name)
  }
})

t.test('an outage is told from a statement that failed', async t => {
  const { POSTGRES_URL } = await stores(t)
  const db = connect(POSTGRES_URL, 1)
  const away = connect('postgres://postgres@127.0.0.1:1/x', 1)
  t.teardown(async () => await Promise.all([db.destroy(), away.destroy()]))
  const errorOf = async (run: Promise<unknown>) => await run.then(() => undefined, (error: unknown) => error)
  t.equal(isOutage(await errorOf(sql`select 1`.execute(away))), true)
  t.equal(isOutage(await errorOf(sql`select 1/0`.execute(db))), false)
  t.equal(isOutage(await errorOf(sql`select pg_terminate_backend(pg_backend_pid())`.execute(db))), true)
})
