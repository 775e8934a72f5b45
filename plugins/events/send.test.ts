/** Sends are checked, and confirmed to PostgreSQL only afterwards; what Kafka has is not sent again. */
import t from 'tap'
import { sql } from 'kysely'
import { kafkaFor, readTopic, startApp, until } from '@bifold/test'
import { eventLog } from '@bifold/test/event-log'
import { relay } from './relay.ts'
import { sendAll } from './send.ts'
import { slotName } from './slot.ts'
import { readTails } from './tail.ts'

t.test('a send that fails leaves the WAL unconfirmed: nothing is lost', async t => {
  const { settings, db, insert } = await eventLog(t)
  const relayed = await startApp(t, 'relay', settings) // makes the topic
  await relayed.app.close()
  await insert(1, 2, 3)
  const kafka = kafkaFor(settings)
  const admin = kafka.admin()
  await admin.connect()
  t.teardown(async () => await admin.disconnect())
  const failing = Object.assign(Object.create(kafka) as typeof kafka, {
    producer: (options: Parameters<typeof kafka.producer>[0]) => ({ ...kafka.producer(options), send: async () => { throw new Error('the leader is gone') } })
  })
  await until(async () => {
    await relay({ url: settings.POSTGRES_URL, db, mode: 'wal', topic: settings.EVENTS_TOPIC, kafka: () => failing, admin, signal: new AbortController().signal, log: relayed.app.log, standby () {}, waiting () {}, sent () {}, caughtUp () {} }, () => {}).catch((error: Error) => { if (!/the leader is gone/.test(error.message)) throw error })
    return true
  }, 'the lease to be free')
  await startApp(t, 'relay', settings)
  await until(async () => (await readTopic(settings)).length === 3)
  t.same((await readTopic(settings)).map(({ headers }) => headers['ce_version']), ['1', '2', '3'])
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
