/** Migrations against the real PostgreSQL. */
import { createHash } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { sql, type Kysely } from 'kysely'
import { Migrator } from 'kysely/migration'
import type { Module } from '@bifold/cqrs'
import { stories } from '@bifold/cqrs/conformance'
import { modules } from '@bifold/modules'
import { stores } from '@bifold/test'
import { connect, databaseOf, isOutage, migrate, poolOf, settledPosition, type Db } from './index.ts'
import { migrations } from './migrations.ts'

t.test('several apps may migrate at once; each step is done once', async t => {
  const { POSTGRES_URL } = await stores(t)
  const dbs = Array.from({ length: 4 }, () => connect(POSTGRES_URL, 2))
  t.teardown(async () => await Promise.all(dbs.map(async db => await db.destroy())))
  const done = await Promise.all(dbs.map(async db => await migrate(db, modules)))
  t.same(done.flat().sort(), ['0001-events', '0002-idempotency-keys', '0003-old-idempotency-keys', '0004-relay-checkpoints', '0005-idempotency-digests', '0006-relay-places', '0007-schema-versions', '0008-process-events', '0009-queued-commands', '0010-command-topics', '0011-relay-slots', 'books-0001-books', 'loans-0001-loans', 'members-0001-members'])
})

t.test('Idempotency-Keys that were kept as text are kept as digests', async t => {
  const { POSTGRES_URL } = await stores(t)
  const db = connect(POSTGRES_URL, 2)
  t.teardown(async () => await db.destroy())
  const older = Object.fromEntries(Object.entries(migrations).filter(([name]) => name < '0005'))
  const { error } = await new Migrator({ db, provider: { getMigrations: async () => older }, allowUnorderedMigrations: true }).migrateToLatest()
  t.equal(error, undefined)
  const [id, sha] = ['019a0000-0000-7000-8000-000000000001', (text: string) => createHash('sha256').update(text)]
  const halfOf = (text: string) => sha(text).digest('hex').slice(0, 32)
  await sql`insert into idempotency_keys (key, fingerprint, answer) values ('a\\key', ${sha('asked').digest('base64url')}, ${JSON.stringify({ id, version: 7 })})`.execute(db)
  await migrate(db, modules)
  const { rows } = await sql`select replace(digest::text, '-', '') as digest, replace(fingerprint::text, '-', '') as fingerprint, id, version from idempotency_keys`.execute(db)
  t.same(rows, [{ digest: halfOf('a\\key'), fingerprint: halfOf('asked'), id, version: 7 }])
})

t.test('who may not read the last position is refused, and not told that there are no events', async t => {
  const { POSTGRES_URL } = await stores(t)
  const db = connect(POSTGRES_URL, 1)
  t.teardown(async () => await db.destroy())
  await migrate(db, modules)
  await sql`set role pg_read_all_stats`.execute(db) // any role that has been given nothing here
  const client = await poolOf(db).connect()
  t.teardown(() => client.release())
  await t.rejects(settledPosition(client), { code: '42501' })
})

t.test('a position is settled when no transaction that may have an earlier one is open; others are not waited for', async t => {
  const { POSTGRES_URL } = await stores(t)
  const db = connect(POSTGRES_URL, 5)
  t.teardown(async () => await db.destroy())
  await migrate(db, modules)
  const insert = async (tx: Db, n: number) => await sql`insert into events (aggregate, aggregate_id, version, type, value, request_id, traceparent, time)
    values ('books', ${`019a0000-0000-7000-8000-00000000000${n}`}, 1, 'BookAdded', '{}', '', '', now())`.execute(tx)
  const client = await poolOf(db).connect()
  t.teardown(() => client.release())
  t.equal(await settledPosition(client), 0)
  const [foreign, open, refused] = await Promise.all([1, 2, 3].map(async () => await db.startTransaction().execute()))
  await sql`select pg_current_xact_id()`.execute(foreign!)
  await insert(open!, 1)
  await insert(refused!, 2)
  let settled: number | undefined
  const settling = settledPosition(client).then(position => { settled = position })
  await setTimeout(100)
  await insert(db, 3)
  t.equal(settled, undefined, 'the first two may still be committed')
  await refused!.rollback().execute()
  await setTimeout(100)
  t.equal(settled, undefined, 'the first may')
  await open!.commit().execute()
  await settling
  t.equal(settled, 2, 'as it was asked for')
  t.equal(await settledPosition(client), 3)
  await foreign!.rollback().execute()
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

t.test('the error of each check and foreign key of a table is known by its name', async t => {
  const { POSTGRES_URL } = await stores(t)
  const db = connect(POSTGRES_URL, 1)
  t.teardown(async () => await db.destroy())
  await migrate(db, modules)
  for (const { name, store: { constraints = {} } } of modules.flatMap(({ aggregates }) => aggregates)) {
    const { rows } = await sql<{ constraint: string }>`select conname as constraint from pg_constraint where conrelid = ${name}::regclass and contype in ('c', 'f') order by conname`.execute(db)
    t.same(Object.keys(constraints).sort(), rows.map(({ constraint }) => constraint), name)
  }
})

t.test('tables are made in the order in which modules and aggregates are listed, whatever their names, in a new database and in an older one', async t => {
  const { POSTGRES_URL } = await stores(t)
  const db = connect(POSTGRES_URL, 1)
  t.teardown(async () => await db.destroy())
  const table = (name: string, refersTo?: string) => ({
    name,
    store: { migrations: { '0001': { up: async (db: Kysely<never>) => { await sql`create table ${sql.table(name)} (id int primary key, other int ${refersTo === undefined ? sql`` : sql`references ${sql.table(refersTo)}`})`.execute(db) } } } }
  })
  const module = (...aggregates: object[]) => ({ aggregates }) as unknown as Module
  t.same((await migrate(db, [module(table('z'), table('y', 'z'))])).slice(-2), ['z-0001', 'y-0001'])
  t.same(await migrate(db, [module(table('z'), table('y', 'z')), module(table('x', 'y'), table('a', 'x'))]), ['x-0001', 'a-0001'])
  t.same(await migrate(db, [module(table('z'), table('y', 'z')), module(table('x', 'y'), table('a', 'x'))]), [])
  await t.rejects(migrate(db, [module(table('z'))]), /previously executed migration .* is missing/, 'a database of a later version')
})

t.test('a store locks what it loads only if it is asked to', async t => {
  const { POSTGRES_URL } = await stores(t)
  const db = connect(POSTGRES_URL, 3)
  t.teardown(async () => await db.destroy())
  await migrate(db, modules)
  const id = '019a0000-0000-7000-8000-000000000001'
  for (const aggregate of modules.flatMap(({ aggregates }) => aggregates)) {
    const load = async (db: Db, lock: boolean) => (await aggregate.store.load(db as never, [id], { lock })).map(({ id, version }) => ({ id, version }))
    // As a state that no rule has seen: what refers to others may not be there.
    await sql`alter table ${sql.table(aggregate.name)} disable trigger all`.execute(db)
    const state = stories(modules).flat().find(step => step.aggregate === aggregate)!.state
    await db.executeQuery(aggregate.store.save(db as never, [{ id, version: 1, state }]))
    const tx = await db.startTransaction().execute()
    t.same(await load(tx, true), [{ id, version: 1 }], aggregate.name)
    t.same(await load(db, false), [{ id, version: 1 }], 'without the lock')
    await t.rejects(db.transaction().execute(async other => {
      await sql`set local lock_timeout = 50`.execute(other)
      await load(other, true)
    }), { code: '55P03' }, 'with it')
    await tx.rollback().execute()
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

t.test('the database of a URL is the one that pg connects to, however it is written', async t => {
  const { POSTGRES_URL } = await stores(t)
  const here = connect(POSTGRES_URL, 1)
  t.teardown(async () => await here.destroy())
  t.same((await sql`select current_database() as database`.execute(here)).rows, [{ database: databaseOf(here) }])
  for (const [url, database] of Object.entries({
    'postgres://user:pw@host:5432/bifold?sslmode=disable': 'bifold',
    'postgres://host/my%20books': 'my books',
    '/var/run/postgresql bifold': 'bifold',
    'socket:/var/run/postgresql?db=bifold': 'bifold',
    'postgres://user@/bifold?host=/var/run/postgresql': 'bifold',
    'postgres://user@%2Fvar%2Frun%2Fpostgresql/bifold': 'bifold',
    'postgres://user@host': 'user'
  })) {
    const db = connect(url)
    t.equal(databaseOf(db), database, url)
    await db.destroy()
  }
})
