/**
 * Three brokers, of which one is killed under load and started again: writes and projections go on, and nothing is lost, doubled or reordered.
 * `BIFOLD_BROKERS_KILLED=3 node test/brokers.test.ts` kills one after the other.
 */
import t, { type Test } from 'tap'
import { setTimeout } from 'node:timers/promises'
import type { Producer } from 'kafkajs'
import { Registry } from 'prom-client'
import { makeExecutor } from '@bifold/commands/executor'
import { newId } from '@bifold/commands/ids'
import { sendAll } from '@bifold/kafka'
import { modules } from '@bifold/modules'
import { connect, type Db } from '@bifold/postgres'
import type { Answered } from '@bifold/tools/crash-kit/load'
import { kafkaFor, readTopic, servers, stores, until, type Settings } from './pipeline.ts'
import { system } from './system.ts'

t.setTimeout(400_000) // each broker takes some 10 s to be found dead, and as long to get up

const killed = Number(process.env['BIFOLD_BROKERS_KILLED'] ?? 1)
const partitions = 6
const burstSize = 300 // books in one transaction, and so in one batch
const batchSize = 50 // some for each partition, and so for each broker

type Send = (producer: Producer, topic: string, messages: { partition: number, key: string, value: string }[]) => Promise<unknown>

/** Sends batch after batch until it is stopped, each producer until its first error, as the relay does; tells which messages had been sent, as it was told, and are not there. */
async function pour (t: Test, settings: Settings, name: string, send: Send) {
  const own = { ...settings, EVENTS_TOPIC: `${settings.EVENTS_TOPIC}_${name}` }
  const kafka = kafkaFor(own)
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ waitForLeaders: false, topics: [{ topic: own.EVENTS_TOPIC, numPartitions: partitions, replicationFactor: 3, configEntries: [{ name: 'min.insync.replicas', value: '2' }] }] })
  // kafkajs would not wait for a broker that has not heard of the topic yet.
  await until(async () => (await admin.fetchTopicMetadata({ topics: [own.EVENTS_TOPIC] })).topics[0]!.partitions.length === partitions, 'the topic')
  await admin.disconnect()
  const sent: string[] = []
  const stopping = new AbortController()
  const pouring = (async () => {
    for (let batch = 0; !stopping.signal.aborted;) {
      const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, retry: { retries: 12 } })
      try {
        await producer.connect()
        for (; !stopping.signal.aborted; batch++) {
          const messages = Array.from({ length: batchSize }, (_, index) => ({ partition: index % partitions, key: `${batch}/${index}`, value: 'x' }))
          await send(producer, own.EVENTS_TOPIC, messages)
          sent.push(...messages.map(({ key }) => key))
          await setTimeout(10) // moderate
        }
      } catch {
        batch++ // what has become of it, nobody was told
      } finally {
        await producer.disconnect().catch(() => {})
      }
    }
  })()
  const stop = async () => {
    stopping.abort()
    await pouring
  }
  t.teardown(stop)
  return {
    async lost () {
      await stop()
      const there = new Set((await readTopic(own)).map(({ key }) => key))
      return { sent: sent.length, lost: sent.filter(key => !there.has(key)) }
    }
  }
}

/** Commits books as a busy gateway does, hundreds at once: so each batch of the relay is for all partitions, and for all brokers. */
async function burst (db: Db, { signal }: AbortController): Promise<Answered[]> {
  const { execute } = makeExecutor(db, new Registry())
  const { addBook } = modules[0]!.commands
  const answered: Answered[] = []
  while (!signal.aborted) {
    await Promise.all(Array.from({ length: burstSize }, async (_, price) => {
      const id = newId()
      const { version } = await execute({ command: addBook!, id, input: { title: 'Of many', authors: ['Burst'], price }, bytes: 0, expected: undefined, key: undefined, requestId: 'burst', traceparent: '' })
      answered.push({ kind: 'add', id, version, data: { price } })
    }))
  }
  return answered
}

/** All replicas of all partitions are in step again. */
async function inSync (settings: Settings): Promise<boolean> {
  const admin = kafkaFor(settings).admin()
  await admin.connect()
  try {
    const { topics } = await admin.fetchTopicMetadata({ topics: [settings.EVENTS_TOPIC] })
    return topics[0]!.partitions.every(({ isr }) => isr.length === 3)
  } finally {
    await admin.disconnect()
  }
}

t.test('brokers that are killed and started again', async t => {
  const own = await servers(t, { brokers: 3 })
  const settings = await stores(t, own.dir)
  const all = await system(t, settings)
  const db = connect(settings.POSTGRES_URL, 2)
  t.teardown(async () => await db.destroy())
  const load = all.load({ clients: 24, restMs: 5 })
  const checked = await pour(t, settings, 'checked', sendAll)
  const plain = await pour(t, settings, 'plain', async (producer, topic, messages) => await producer.send({ topic, acks: -1, messages }))
  const probes: Answered[] = []
  for (let broker = 0; broker < killed; broker++) {
    await setTimeout(2000) // the load as it is in good times
    const bursting = new AbortController()
    const burstOf = burst(db, bursting)
    await setTimeout(300) // the relay is at it
    const dead = Date.now()
    await own.killBroker(broker)
    bursting.abort()
    probes.push(...await burstOf)
    probes.push(await all.through())
    t.comment(`without broker ${broker}, a book written after its death was read ${Date.now() - dead} ms after it`)
    t.ok(Date.now() - dead < 30_000, `writes and projections go on without broker ${broker}`)
    await setTimeout(2000) // what is written meanwhile is not on it
    const starting = Date.now()
    await own.start()
    await until(async () => await inSync(settings), 'the replicas to be in step')
    t.comment(`broker ${broker} was in step ${Date.now() - starting} ms after its start`)
    probes.push(await all.through())
  }
  const record = await load.stop()
  record.answered.push(...probes)
  t.same(load.seen.filter(({ status, error }) => error !== undefined || status! >= 500).map(({ to, status, error }) => `${to}: ${status ?? error}`), [], 'no request failed')
  t.comment(`${record.answered.length} commands answered, ${record.reads} reads`)

  const [ours, theirs] = [await checked.lost(), await plain.lost()]
  t.comment(`the plain send of kafkajs lost ${theirs.lost.length} of ${theirs.sent} messages, ours ${ours.lost.length} of ${ours.sent}`)
  t.same(ours.lost, [], 'what sendAll has sent is on the topic')
  // Each time that a broker dies, two times of three here.
  if (killed === 3) t.ok(theirs.lost.length > 0, 'a plain send loses messages here: else this test would show nothing')
  await all.verdict(t, record)
})
