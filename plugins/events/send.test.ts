/** Sends are checked, and confirmed to PostgreSQL only afterwards; what Kafka has is not sent again. */
import t, { type Test } from 'tap'
import { execa } from 'execa'
import { sql } from 'kysely'
import { kafkaFor, readTopic, startApp, until, type Settings } from '@bifold/test'
import { eventLog } from '@bifold/test/event-log'
import { readCheckpoint } from './checkpoint.ts'
import { relay } from './relay.ts'
import { sendAll } from '@bifold/kafka'
import { readSeen } from './tail.ts'

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
  const slotOf = async () => (await readCheckpoint(db, settings.EVENTS_TOPIC))!.slot!
  const copy = `${await slotOf()}_copy`
  await insert(4)
  await sql`select pg_copy_logical_replication_slot(${await slotOf()}::name, ${copy}::name)`.execute(db)
  const again = await startApp(t, 'relay', settings)
  await until(async () => (await readTopic(settings)).length === 4)
  await again.app.close()
  await sql`update relay_checkpoints set slot = ${copy}`.execute(db)
  await startApp(t, 'relay', settings)
  await insert(5)
  await until(async () => (await readTopic(settings)).length >= 5)
  t.same((await readTopic(settings)).map(({ headers }) => headers['ce_version']), ['1', '2', '3', '4', '5'])
  t.equal(await slotOf(), copy, 'it went on with the copy')
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

t.test('more for one partition than Kafka takes in one batch goes in several, in order', async t => {
  const { settings, db, insertOf } = await eventLog(t)
  await insertOf(1, Array.from({ length: 1000 }, (_, index) => index + 1))
  // One aggregate, 1,000 times 1.5 KB in one transaction, and then as large as an event may be.
  const grown = async (versions: number, size: number) => await sql`update events set value = json_build_object('task', 'update', 'data', json_build_object('id', aggregate_id, 'version', version, 'text', repeat('x', ${size}))) where version <= ${versions}`.execute(db)
  await grown(1000, 1500)
  await grown(12, 760_000)
  await startApp(t, 'relay', settings)
  const large = await db.transaction().execute(async tx => {
    await insertOf(2, [1, 2, 3, 4, 5], tx)
    return 1005
  })
  await until(async () => (await readTopic(settings)).length === large, 'all of them')
  for (const id of [1, 2]) {
    const versions = (await readTopic(settings)).filter(({ key }) => key.endsWith(String(id))).map(({ headers }) => Number(headers['ce_version']))
    t.same(versions, versions.map((_, index) => index + 1))
  }
})

t.test("somebody else's transaction that stays open hides nothing of what the topic has", async t => {
  const { settings, insert, db } = await eventLog(t)
  settings.RELAY_MODE = 'polling'
  const relay = await startApp(t, 'relay', settings)
  const foreign = kafkaFor(settings).producer({ transactionalId: settings.EVENTS_TOPIC, idempotent: true, maxInFlightRequests: 1 })
  await foreign.connect()
  t.teardown(async () => await foreign.disconnect())
  const open = await foreign.transaction()
  for (const partition of [0, 1, 2, 3, 4, 5]) await open.send({ topic: settings.EVENTS_TOPIC, messages: [{ partition, value: 'not yet' }] })
  await insert(1, 2)
  await until(async () => (await relay.app.inject('/metrics')).body.includes('bifold_relay_events_total 2'), 'both to be sent')
  await relay.app.close()
  await startApp(t, 'relay', settings)
  await insert(3)
  await until(async () => (await db.selectFrom('relayCheckpoints').select('position').executeTakeFirst())?.position === 3, 'the third')
  await open.abort()
  t.same((await readTopic(settings)).map(({ headers }) => headers['ce_version']), ['1', '2', '3'])
})

t.test('a relay that is stopped while it waits to catch up has not caught up', async t => {
  const { settings, insert, insertOf, db } = await eventLog(t)
  const relay = await startApp(t, 'relay', settings)
  await insert(1, 2)
  await until(async () => (await readTopic(settings)).length === 2)
  await relay.app.close()
  const late = await db.startTransaction().execute()
  await insertOf(1, [1], late)
  settings.RELAY_MODE = 'polling'
  const waiting = await startApp(t, 'relay', settings, { ready: false })
  await until(async () => waiting.logs.some(({ msg }) => msg === 'catching up from the table of events'), 'the relay to wait for the transaction')
  await waiting.app.close()
  await late.commit().execute()
  await startApp(t, 'relay', settings)
  await insert(3)
  await until(async () => (await readTopic(settings)).length >= 4, 'what was missing')
  t.same((await readTopic(settings)).map(({ headers }) => headers['ce_version']).sort(), ['1', '1', '2', '3'])
})

const connected = async (t: Test, settings: Settings) => {
  const kafka = kafkaFor(settings)
  const [producer, admin] = [kafka.producer(), kafka.admin()]
  await Promise.all([producer.connect(), admin.connect()])
  t.teardown(async () => await Promise.all([producer.disconnect(), admin.disconnect()]))
  return { kafka, producer, admin }
}

/** The relay's own last message, with other headers. */
const forged = async (settings: Settings, headers: Record<string, string>) => {
  const { partition, key, value, headers: own } = (await readTopic(settings)).at(-1)!
  return { partition, key, value: JSON.stringify(value), headers: { ...own, ...headers } }
}

/** Kafka's own console producer, which compresses as kafkajs does not. */
const consoleProduce = async ({ KAFKA_BROKERS, EVENTS_TOPIC }: Settings, codec: string) => {
  await execa(process.execPath, ['stack/kafka.ts', 'produce', '--compression-codec', codec], { env: { KAFKA_BROKERS, EVENTS_TOPIC }, input: 'junk\njunk\n' })
}

const sinceNow = async (settings: Settings, run: () => Promise<void>, count: number) => {
  const before = (await readTopic(settings)).length
  await run()
  await until(async () => (await readTopic(settings)).length >= before + count, 'what is new')
  return (await readTopic(settings)).slice(before).map(({ headers }) => headers['ce_version'])
}

// Each of them, by the last message of the topic, has kept the relay from ever starting again, or from sending anything more.
const forgeries: Record<string, Record<string, string>> = {
  'a place behind all others': { ce_sequence: '00000001-ffffffffffffffff-00000000' },
  'an epoch behind which there is none': { ce_sequence: 'ffffffff-ffffffffffffffff-00000000' },
  'a version that no integer holds': { ce_version: '9999999999' },
  'a time that is none': { ce_time: '2026-99-99T99:99:99.999Z' },
  'an event that PostgreSQL does not have': { ce_version: '77' }
}

for (const [name, headers] of Object.entries(forgeries)) {
  t.test(`what somebody else puts on the topic does not hold back what is the relay's: ${name}`, async t => {
    const { settings, insert } = await eventLog(t)
    const relay = await startApp(t, 'relay', settings)
    await insert(1, 2)
    await until(async () => (await readTopic(settings)).length === 2)
    await relay.app.close()
    const { producer } = await connected(t, settings)
    await producer.send({ topic: settings.EVENTS_TOPIC, messages: [await forged(settings, headers)] })
    t.same(await sinceNow(settings, async () => {
      await insert(3)
      await startApp(t, 'relay', settings)
      await insert(4)
    }, 2), ['3', '4'])
  })
}

t.test('a topic full of what is not ours, compressed as kafkajs cannot read it', async t => {
  const { settings, insert } = await eventLog(t)
  const { kafka, producer, admin } = await connected(t, settings)
  // Made by somebody else, with a setting of their own.
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic: settings.EVENTS_TOPIC, numPartitions: 6, configEntries: [{ name: 'segment.ms', value: '3600000' }] }] })
  await (await startApp(t, 'relay', settings)).app.close()
  for (const codec of ['zstd', 'snappy', 'lz4']) await consoleProduce(settings, codec)
  const junk = Array.from({ length: 250 }, (_, n) => ({ key: String(n), value: 'junk', headers: { ce_sequence: 'zzz' } }))
  for (const partition of [0, 1, 2, 3, 4, 5]) await producer.send({ topic: settings.EVENTS_TOPIC, messages: junk.map(message => ({ ...message, partition })) })
  await insert(1)
  await startApp(t, 'relay', settings)
  await insert(2)
  const versions = async () => (await readTopic(settings)).flatMap(({ headers }) => headers['ce_version'] ?? [])
  await until(async () => (await versions()).length >= 2, 'the events')
  t.same(await versions(), ['1', '2'])
  const { tails, identities } = await readSeen(kafka, admin, settings.EVENTS_TOPIC, [], 1)
  t.equal(tails.length, 6)
  t.same(tails.filter(tail => tail !== undefined).map(({ version }) => version), [2])
  t.equal(identities?.size, 2)
  const { resources: [topic] } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: 2, name: settings.EVENTS_TOPIC, configNames: ['segment.ms', 'compression.type'] }] })
  t.same(topic!.configEntries.map(({ configName, configValue }) => `${configName}=${configValue}`).sort(), ['compression.type=uncompressed', 'segment.ms=3600000'])
})
