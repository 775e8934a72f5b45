/** The relay against the real PostgreSQL and Kafka: confirmed only what Kafka has, sent once, in commit order. */
import t, { type Test } from 'tap'
import { sql } from 'kysely'
import { connect, migrate, publication, slotName } from '@bifold/postgres'
import { modules } from '@bifold/modules'
import { kafkaFor, readTopic, startApp, stores, until } from '@bifold/test'
import { relay, sendAll } from './relay.ts'
import { readTails } from './tail.ts'
import { streamWal, type Wal } from './wal.ts'
import type { WalTransaction } from './pgoutput.ts'

async function eventLog (t: Test) {
  const settings = await stores(t)
  const db = connect(settings.POSTGRES_URL, 4)
  t.teardown(async () => await db.destroy())
  await migrate(db, modules)
  const id = '019a0000-0000-7000-8000-000000000000'
  const insert = async (...versions: number[]) => {
    await sql`insert into events (aggregate, aggregate_id, version, type, value, request_id, traceparent, time)
      select 'books', ${id}, version, 'BookRevised', json_build_object('task', 'update', 'data', json_build_object('id', ${id}::text, 'version', version)), 'r', '', now()
      from unnest(${versions}::int[]) as version`.execute(db)
  }
  const open = async () => {
    const transactions: WalTransaction[] = []
    const wal = await streamWal({ url: settings.POSTGRES_URL, slot: await slotName(db), publication }, { transaction: each => { transactions.push(each) }, reached () {} })
    return { wal, transactions }
  }
  return { settings, db, insert, open }
}

const versions = (transactions: readonly WalTransaction[]) => transactions.map(({ rows }) => rows.map(row => Number(row['version'])))

// A slot is free again a moment after its reader has gone.
const reopen = async (open: () => Promise<{ wal: Wal, transactions: WalTransaction[] }>) => await until(async () => await open(), 'the slot to be free')

t.test('what was not confirmed comes again; what was confirmed does not, and the next is not skipped', async t => {
  const { insert, open } = await eventLog(t)
  await insert(1, 2)
  await insert(3)
  await insert(4)
  const first = await open()
  await until(async () => first.transactions.length === 3)
  t.same(versions(first.transactions), [[1, 2], [3], [4]])
  first.wal.confirm(first.transactions[0]!.end)
  await first.wal.close()

  const second = await reopen(open)
  await until(async () => second.transactions.length === 2)
  t.same(versions(second.transactions), [[3], [4]], 'received is not confirmed')
  second.wal.confirm(second.transactions[1]!.end)
  await second.wal.close()

  await insert(5)
  const third = await reopen(open)
  await until(async () => third.transactions.length > 0)
  t.same(versions(third.transactions), [[5]])
  await third.wal.close()
})

t.test('transactions come in the order of their commits, not of their beginnings', async t => {
  const { db, insert, open } = await eventLog(t)
  const late = await db.startTransaction().execute()
  await sql`insert into events (aggregate, aggregate_id, version, type, value, request_id, traceparent, time) values ('books', '019a0000-0000-7000-8000-000000000001', 1, 'BookAdded', '{}', '', '', now())`.execute(late)
  await insert(7)
  await late.commit().execute()
  const { wal, transactions } = await open()
  await until(async () => transactions.length === 2)
  t.same(versions(transactions), [[7], [1]])
  t.ok(transactions[0]!.commit < transactions[1]!.commit, 'and their places rise')
  await wal.close()
})

t.test('a transaction that commits right behind a confirmed one is not skipped', async t => {
  const { db, open } = await eventLog(t)
  // Both have written before either commits: the second commit record begins where the first one ends.
  const begun = [await db.startTransaction().execute(), await db.startTransaction().execute()]
  for (const [n, transaction] of begun.entries()) {
    await sql`insert into events (aggregate, aggregate_id, version, type, value, request_id, traceparent, time) values ('books', ${`019a0000-0000-7000-8000-00000000000${n}`}, ${n + 1}, 'BookAdded', '{}', '', '', now())`.execute(transaction)
  }
  await Promise.all(begun.map(async transaction => await transaction.commit().execute()))
  const first = await open()
  await until(async () => first.transactions.length === 2)
  first.wal.confirm(first.transactions[0]!.end)
  await first.wal.close()
  const second = await reopen(open)
  await until(async () => second.transactions.length > 0)
  t.same(versions(second.transactions), [versions(first.transactions)[1]])
  await second.wal.close()
})

t.test('a send that fails leaves the WAL unconfirmed: nothing is lost', async t => {
  const { settings, db, insert } = await eventLog(t)
  const relayed = await startApp(t, 'relay', settings) // makes the topic
  await relayed.app.close()
  await insert(1, 2, 3)
  const kafka = kafkaFor(settings)
  const admin = kafka.admin()
  await admin.connect()
  t.teardown(async () => await admin.disconnect())
  const failing = { ...kafka, producer: (options: Parameters<typeof kafka.producer>[0]) => ({ ...kafka.producer(options), send: async () => { throw new Error('the leader is gone') } }) }
  const run = until(async () => {
    await relay({ url: settings.POSTGRES_URL, slot: await slotName(db), publication, topic: settings.EVENTS_TOPIC, kafka: failing as never, admin, signal: new AbortController().signal, resumed: async () => {}, waiting () {}, sent () {} }, () => {}).catch((error: Error) => { if (!/the leader is gone/.test(error.message)) throw error })
    return true
  }, 'the slot to be free')
  await run
  await startApp(t, 'relay', settings)
  await until(async () => (await readTopic(settings)).length === 3)
  t.same((await readTopic(settings)).map(({ headers }) => headers['ce_version']), ['1', '2', '3'])
})

t.test('one slot has one reader: a second relay stands by, says so, and takes over', async t => {
  const { settings, insert } = await eventLog(t)
  const first = await startApp(t, 'relay', settings)
  const second = await startApp(t, 'relay', settings, { ready: false })
  await until(async () => /is active for PID/.test(await (await fetch(`${second.url}/health/ready`)).text()), 'the standby to say why it waits')
  await insert(1)
  await until(async () => (await readTopic(settings)).length === 1)
  await first.app.close()
  await until(async () => (await fetch(`${second.url}/health/ready`)).ok, 'the standby to take over')
  await insert(2)
  await until(async () => (await readTopic(settings)).length === 2)
  t.same((await readTopic(settings)).map(({ headers }) => headers['ce_version']), ['1', '2'])
})

t.test('what Kafka already has is not sent again, though PostgreSQL was never told', async t => {
  const { settings, db, insert } = await eventLog(t)
  const relay = await startApp(t, 'relay', settings)
  await insert(1, 2, 3)
  await until(async () => (await readTopic(settings)).length === 3)
  await relay.app.close()
  // The slot as it was before the confirmation: made anew at an older place is not possible, so a copy is read.
  const slot = await slotName(db)
  await insert(4)
  await sql`select pg_copy_logical_replication_slot(${slot}::name, ${`${slot}_copy`}::name)`.execute(db)
  const again = await startApp(t, 'relay', settings)
  await until(async () => (await readTopic(settings)).length === 4)
  await again.app.close()
  await sql`select pg_drop_replication_slot(${slot}::name)`.execute(db)
  await sql`select pg_copy_logical_replication_slot(${`${slot}_copy`}::name, ${slot}::name)`.execute(db)
  await startApp(t, 'relay', settings)
  await insert(5)
  await until(async () => (await readTopic(settings)).length >= 5)
  t.same((await readTopic(settings)).map(({ headers }) => headers['ce_version']), ['1', '2', '3', '4', '5'])
})

t.test('a send that did not reach every partition is an error, though kafkajs says nothing', async t => {
  const { settings } = await eventLog(t)
  await startApp(t, 'relay', settings) // makes the topic
  const producer = kafkaFor(settings).producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  t.teardown(async () => await producer.disconnect())
  const messages = [0, 1, 2].map(partition => ({ partition, key: 'k', value: 'v' }))
  await sendAll(producer, settings.EVENTS_TOPIC, messages)
  // What kafkajs does when the leadership of a partition moves to a broker that has answered already (pitfalls of kafkajs 2.2.4).
  const forgetful = { ...producer, send: async (record: Parameters<typeof producer.send>[0]) => (await producer.send(record)).filter(({ partition }) => partition !== 1) }
  await t.rejects(sendAll(forgetful, settings.EVENTS_TOPIC, messages), { message: /did not confirm the partitions 1 / })
})

t.test('the end of the topic is read past what others have put there', async t => {
  const { settings, insert } = await eventLog(t)
  await startApp(t, 'relay', settings)
  await insert(1, 2)
  await until(async () => (await readTopic(settings)).length === 2)
  const kafka = kafkaFor(settings)
  const [producer, admin] = [kafka.producer(), kafka.admin()]
  await Promise.all([producer.connect(), admin.connect()])
  t.teardown(async () => await Promise.all([producer.disconnect(), admin.disconnect()]))
  const junk = Array.from({ length: 250 }, (_, n) => ({ key: String(n), value: 'junk', headers: { ce_sequence: 'zzz' } }))
  for (const partition of [0, 1, 2, 3, 4, 5]) await producer.send({ topic: settings.EVENTS_TOPIC, messages: junk.map(message => ({ ...message, partition })) })
  const tails = await readTails(kafka, admin, settings.EVENTS_TOPIC)
  t.equal(tails.length, 6)
  t.same(tails.filter(tail => tail !== undefined).map(({ version }) => version), [2])
})
