/** Transactions whose writes go out together, against the real PostgreSQL. */
import t, { type Test } from 'tap'
import { sql } from 'kysely'
import { stores } from '@bifold/test'
import { connect, isOutage, transaction, type Db } from './index.ts'

async function tables (t: Test, connections = 1) {
  const { POSTGRES_URL } = await stores(t)
  const db = connect(POSTGRES_URL, connections)
  t.teardown(async () => await db.destroy())
  await sql`create table notes (id integer primary key, tags text[], at timestamptz)`.execute(db)
  await sql`create sequence steps`.execute(db)
  return db
}

const insert = (db: Db, ...ids: number[]) => ids.map(id => sql`insert into notes (id) values (${id})`.compile(db))
const read = async (db: Db, id: number) => await sql`select from notes where id = ${id} for update`.execute(db)
const ids = async (db: Db) => (await sql<{ id: number }>`select id from notes order by id`.execute(db)).rows.map(({ id }) => id)

t.test('writes are done in their order, with their values', async t => {
  const db = await tables(t)
  const at = new Date('2026-01-02T03:04:05.678Z')
  t.equal(await transaction(db, async tx => ({
    result: 'done',
    writes: [sql`insert into notes values (${1}, ${['a "b"', 'c,d', '']}, ${at})`.compile(tx), sql`update notes set id = id + 1, tags = tags || ${null}::text`.compile(tx)]
  })), 'done')
  t.same((await sql`select * from notes`.execute(db)).rows, [{ id: 2, tags: ['a "b"', 'c,d', '', null], at }])
})

for (const [how, before] of [['without a read', async () => {}], ['after a read', async (tx: Db) => await read(tx, 1)]] as const) {
  t.test(`one write that fails undoes those before it, and those behind it are not begun: ${how}`, async t => {
    const db = await tables(t)
    await transaction(db, async tx => ({ result: undefined, writes: insert(tx, 7) }))
    await t.rejects(transaction(db, async tx => {
      await before(tx)
      return { result: undefined, writes: [...insert(tx, 1, 2, 7), sql`select nextval('steps')`.compile(tx)] }
    }), { code: '23505', constraint: 'notes_pkey' })
    t.same(await ids(db), [7])
    t.same((await sql`select is_called as called from steps`.execute(db)).rows, [{ called: false }], 'not even what no rollback takes back')
    await transaction(db, async tx => ({ result: undefined, writes: insert(tx, 8) }))
    t.same(await ids(db), [7, 8], 'the connection is in order')
  })
}

t.test('a statement that one table did not let be prepared is prepared once the table does', async t => {
  const db = await tables(t)
  const write = async () => await transaction(db, async tx => ({ result: undefined, writes: [...insert(tx, 1), sql`insert into later values (1)`.compile(tx), ...insert(tx, 2)] }))
  await t.rejects(write(), { code: '42P01' })
  await sql`create table later (id integer)`.execute(db)
  await write()
  await sql`alter table later add column note text default 'new'`.execute(db)
  await transaction(db, async tx => ({ result: undefined, writes: [sql`insert into later values (1)`.compile(tx)] }))
  t.same(await ids(db), [1, 2])
  t.same((await sql`select * from later`.execute(db)).rows, [{ id: 1, note: 'new' }, { id: 1, note: 'new' }], 'planned anew after the change')
  const { rows } = await sql<{ statement: string }>`select statement from pg_prepared_statements where statement like 'insert into later%'`.execute(db)
  t.equal(rows.length, 1, 'and prepared once')
})

t.test('what a read has locked is locked until the commit', async t => {
  const db = await tables(t, 2)
  await transaction(db, async tx => ({ result: undefined, writes: insert(tx, 1) }))
  const order: string[] = []
  const [locked, release] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const first = transaction(db, async tx => {
    await read(tx, 1)
    locked.resolve()
    await release.promise
    order.push('first')
    return { result: undefined, writes: [sql`update notes set tags = '{first}'`.compile(tx)] }
  })
  await locked.promise
  const second = transaction(db, async tx => {
    const reading = read(tx, 1)
    release.resolve()
    await reading
    order.push('second')
    return { result: (await sql<{ tags: string[] }>`select tags from notes`.execute(tx)).rows, writes: [] }
  })
  await first
  t.same(await second, [{ tags: ['first'] }])
  t.same(order, ['first', 'second'])
})

t.test('who throws while deciding leaves nothing behind', async t => {
  const db = await tables(t)
  await t.rejects(transaction(db, async tx => {
    await sql`insert into notes (id) values (1)`.execute(tx)
    throw new Error('changed my mind')
  }), { message: 'changed my mind' })
  t.same(await ids(db), [])
})

t.test('a connection that breaks is an outage, and the next transaction has another', async t => {
  const db = await tables(t)
  const errorOf = async (run: Promise<unknown>) => await run.then(() => undefined, (error: unknown) => error)
  const die = (tx: Db) => [...insert(tx, 1), sql`select pg_terminate_backend(pg_backend_pid())`.compile(tx)]
  t.ok(isOutage(await errorOf(transaction(db, async tx => ({ result: undefined, writes: die(tx) })))))
  t.ok(isOutage(await errorOf(transaction(db, async tx => {
    await read(tx, 1)
    return { result: undefined, writes: die(tx) }
  }))))
  await transaction(db, async tx => ({ result: undefined, writes: insert(tx, 2) }))
  t.same(await ids(db), [2])
})
