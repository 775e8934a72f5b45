/** Where a projector begins in a partition, and what it makes of what it finds there. */
import t, { type Test } from 'tap'
import { MongoClient } from 'mongodb'
import { hex, nextEpoch, projection, sequenceOf, update, type AnyProjection } from '@bifold/cqrs'
import { messageOf } from '@bifold/postgres'
import { makeLanes, type Held, type RawMessage } from '@bifold/kafka'
import { kafkaFor, stores, topicFor, until } from '@bifold/test'
import { checkpoints, makeCheckpoint } from './apply.ts'
import { consume, type ConsumeOptions } from './consume.ts'
import { letters } from './letters.ts'
import { openPartition, tracksOf, type ProjectOptions } from './project.ts'
import { makeTurns } from './turns.ts'

const counts = projection<any, any>({ collection: 'counts', indexes: [], on: { Counted: ({ id }) => update(id, { inc: { n: 1 } }) } })

/** A projector of these projections on an empty topic. */
async function projector (t: Test, projections: readonly AnyProjection[]) {
  const settings = await stores(t)
  const client = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => await client.close())
  const [kafka, admin, topic] = [kafkaFor(settings), await topicFor(t, settings), settings.EVENTS_TOPIC]
  const db = client.db()
  const ending = new AbortController()
  const held = new Map<number, Held | undefined>()
  const options: ProjectOptions = {
    db,
    kafka,
    admin,
    topic,
    groupId: topic,
    projections,
    turns: makeTurns(projections),
    declared: new Set(['Counted', 'Lent']),
    signal: ending.signal,
    log: { info () {}, debug () {}, warn () {}, error () {} } as never,
    applied () {},
    disordered () {},
    leftOut () {},
    holding: (partition, now) => { held.set(partition, now) }
  }
  /** Applies messages of partition 0 to the projections, from where each stands. */
  const apply = async (messages: readonly RawMessage[], offsets: readonly number[]) => {
    const standing = projections.map((projection, index) => makeCheckpoint(projection, { topic, partition: 0 }, '', offsets[index]!))
    await checkpoints(db).insertMany(standing)
    const tracks = tracksOf(options, { number: 0, low: 0, high: 0 }, projections.map((projection, index) => ({ projection, checkpoint: standing[index]!, parked: new Map() })))
    await Promise.all(tracks.map(async track => await track.work(messages)))
    return tracks
  }
  /** Reads the topic; tells why it has ended. */
  const run = async () => {
    await checkpoints(db).insertMany((await admin.fetchTopicOffsets(topic)).flatMap(({ partition }) => projections.map(projection => makeCheckpoint(projection, { topic, partition }, '', 0))))
    let [begun, end]: [boolean, string | undefined] = [false, undefined]
    const attempt = async () => await consume(options, () => { begun = true }).then(() => { end = 'it was told to' }, error => { end = (error as Error).message })
    let consuming = attempt()
    t.teardown(async () => {
      ending.abort()
      await consuming
    })
    await until(async () => {
      // A broker that has just begun knows no coordinator yet.
      if (!begun && end !== undefined) [end, consuming] = [undefined, attempt()]
      return begun
    }, 'the consumer')
    return async () => end
  }
  return { db, topic, options, apply, run, held }
}

/** A message of the relay's. */
function message (offset: number, type: string, id: string, epoch = 1): RawMessage {
  const row = { aggregate: 'counts', aggregateId: id, version: offset + 1, type, schemaVersion: 1, value: JSON.stringify({ task: 'update', data: { id, version: offset + 1 } }), requestId: 'r', traceparent: 't', time: new Date().toISOString() }
  return { timestamp: '0', offset: String(offset), ...messageOf(row, sequenceOf(epoch, hex(offset, 16), 0)) }
}

const junk = (offset: number): RawMessage => ({ offset: String(offset), timestamp: '0', key: null, value: null })

t.test('a read model without checkpoints is not begun: it is to be built; with some, a new partition is', async t => {
  const { db, topic, options } = await projector(t, [counts])
  await t.rejects(openPartition(options, 0), { message: /counts is not there/ })
  await db.createCollection('counts')
  await t.rejects(openPartition(options, 0), { message: /counts is not there/ })
  await checkpoints(db).insertOne(makeCheckpoint(counts, { topic, partition: 1 }, '', 0))
  t.equal(Math.min(...(await openPartition(options, 0)).map(({ next }) => next)), 0)
})

t.test('a checkpoint that another projector moves meanwhile is behind no end; one that is behind the end now is of another topic', async t => {
  const { db, topic, options } = await projector(t, [counts])
  await checkpoints(db).insertOne(makeCheckpoint(counts, { topic, partition: 0 }, '', 0))
  /** Has another projector apply one more, right after it was asked for the ends. */
  const fetchTopicOffsets = async (topic: string) => {
    const ends = await options.admin.fetchTopicOffsets(topic)
    await send(t, options, 1, 10)
    await checkpoints(db).updateOne({}, { $inc: { offset: 1 } })
    return ends
  }
  t.equal(Math.min(...(await openPartition({ ...options, admin: { ...options.admin, fetchTopicOffsets } }, 0)).map(({ next }) => next)), 1)
  await checkpoints(db).updateOne({}, { $set: { offset: 9 } })
  await t.rejects(openPartition(options, 0), { message: /ends at 2, before the checkpoint 9 of counts/ })
  t.equal(await checkpoints(db).countDocuments(), 0, 'it is to be built anew')
})

t.test('an event that another module declares is passed over; one that none declares parks its aggregate', async t => {
  const { db, apply } = await projector(t, [counts])
  await apply([message(0, 'Lent', 'a'), message(1, 'Counted', 'a'), message(2, 'Burnt', 'b'), message(3, 'Counted', 'b')], [0])
  t.same(await db.collection('counts').find().toArray(), [{ _id: 'a', n: 1 }])
  t.match(await letters(db).find().sort({ offset: 1 }).toArray(), [{ offset: 2, aggregateId: 'b', reason: 'no projection knows Burnt' }, { offset: 3, waits: true }])
})

t.test('a message that nobody can read is kept once, wherever the projections stand', async t => {
  const others: AnyProjection = { ...counts, collection: 'others' }
  const { db, apply } = await projector(t, [counts, others])
  await apply([junk(0), message(1, 'Counted', 'a'), junk(2)], [2, 0])
  t.match(await letters(db).find().toArray(), [{ projection: 'counts', offset: 2 }], 'the one before was kept before')
})

/** The lanes of a projector, with what they have told the consumer. */
async function opened (t: Test) {
  const { db, topic, options } = await projector(t, [counts])
  await checkpoints(db).insertOne(makeCheckpoint(counts, { topic, partition: 0 }, '', 0))
  const told: string[] = []
  const lanes = makeLanes({ ...options, open: async partition => await openPartition(options, partition) }, { pause: () => told.push('pause'), resume: () => told.push('resume'), seek: ({ offset }) => told.push(`seek ${offset}`) }, error => told.push((error as Error).message))
  t.teardown(lanes.stop)
  return { db, lanes, told }
}

t.test('two rebalances at once: each partition is opened once', async t => {
  const { lanes, told } = await opened(t)
  const begun = [lanes.begin([0]), lanes.begin([0])]
  t.same(told, ['pause', 'pause'], 'nothing is read in vain meanwhile')
  await Promise.all(begun)
  t.same(told, ['pause', 'pause', 'seek 0', 'resume'])
})

t.test('a lane that is fenced off while it is stopped for a rebalance is not begun again besides', async t => {
  const { db, lanes, told } = await opened(t)
  await lanes.begin([0])
  await checkpoints(db).updateOne({}, { $set: { sequence: 'moved' } })
  lanes.of(0)!.add([message(0, 'Counted', 'a')])
  await lanes.begin([0])
  t.same(told.filter(call => call.startsWith('seek')), ['seek 0', 'seek 0'])
})

/** Sends messages that nobody can read to partition 0, one request each. */
async function send (t: Test, { kafka, topic }: ConsumeOptions, count: number, bytes: number) {
  const producer = kafka.producer()
  await producer.connect()
  t.teardown(async () => await producer.disconnect())
  for (let n = 0; n < count; n++) await producer.send({ topic, messages: [{ partition: 0, key: null, value: Buffer.alloc(bytes) }] })
}

t.test('what Kafka deletes while a projector that is at work is behind is missed at once', async t => {
  const { db, topic, options, run, held } = await projector(t, [counts])
  const end = await run()
  // MongoDB takes nothing for partition 0, and the lane reads no more once it has enough.
  const session = db.client.startSession()
  session.startTransaction()
  await checkpoints(db).updateOne({ partition: 0 }, { $set: { version: 1, note: 'held' } }, { session })
  await send(t, options, 20, 180_000)
  await until(async () => (held.get(0)?.messages ?? 0) >= 9, 'the lane to be full')
  await options.admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '20' }] })
  await send(t, options, 1, 10)
  await session.abortTransaction()
  await session.endSession()
  t.match(await until(end, 'the loss to be seen'), /Kafka has deleted messages of partition 0 that counts has not seen, from \d+ to 20/)
  t.equal(await checkpoints(db).countDocuments(), 0, 'it is to be built anew')
})

t.test('a read model that is held up holds up no other, and catches up', async t => {
  const others: AnyProjection = { ...counts, collection: 'others' }
  const { db, topic, options, run } = await projector(t, [counts, others])
  await run()
  const session = db.client.startSession()
  session.startTransaction()
  await checkpoints(db).updateOne({ projection: 'others', partition: 0 }, { $set: { note: 'held' } }, { session })
  const producer = options.kafka.producer()
  await producer.connect()
  t.teardown(async () => await producer.disconnect())
  const counted = (collection: string, n: number) => until(async () => (await db.collection(collection).findOne({}))?.['n'] === n, `${n} in ${collection}`)
  for (let offset = 0; offset < 3; offset++) {
    const { key, value, headers } = message(offset, 'Counted', 'a')
    await producer.send({ topic, messages: [{ partition: 0, key, value, headers: headers as Record<string, string> }] })
    await counted('counts', offset + 1)
  }
  t.same(await db.collection('others').find().toArray(), [])
  await session.abortTransaction()
  await session.endSession()
  await counted('others', 3)
  t.match(await checkpoints(db).find({ partition: 0 }).toArray(), [{ offset: 3 }, { offset: 3 }])
})

t.test("a stranger's transaction holds up nothing, neither while it is open nor when it is given up", async t => {
  const { db, topic, options, run } = await projector(t, [counts])
  await run()
  const producer = options.kafka.producer({ transactionalId: topic, maxInFlightRequests: 1, idempotent: true })
  await producer.connect()
  t.teardown(async () => await producer.disconnect())
  const kept = async (count: number) => await until(async () => await letters(db).countDocuments({ partition: 0, reason: /cannot be read/ }) === count, `${count} letters`)
  const transaction = await producer.transaction()
  await transaction.send({ topic, messages: [{ partition: 0, key: null, value: Buffer.alloc(300_000) }] }) // more than a fetch, so that its end is in the next
  await send(t, options, 1, 10)
  await kept(2)
  await transaction.abort()
  await send(t, options, 1, 10)
  await kept(3)
})

t.test('a topic that is another than before, and as long: the read model is to be built anew', async t => {
  const { db, apply } = await projector(t, [counts])
  const [, track] = await apply([message(0, 'Counted', 'a'), message(1, 'Counted', 'a')], [0])
  await t.rejects(track!.work([message(2, 'Counted', 'a', nextEpoch(1, { topic: 'another' }))]), { message: /is of another topic than counts has read; it is built anew/ })
  t.equal(await checkpoints(db).countDocuments(), 0)
  t.same(await db.collection('counts').find().toArray(), [{ _id: 'a', n: 2 }])
})
