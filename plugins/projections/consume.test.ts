/** Where a projector begins in a partition, and what it makes of what it finds there. */
import t, { type Test } from 'tap'
import { MongoClient } from 'mongodb'
import { projection, update, type AnyProjection } from '@bifold/cqrs'
import { ensureTopic } from '@bifold/kafka'
import { messageOf } from '@bifold/postgres'
import { kafkaFor, stores } from '@bifold/test'
import { checkpoints, makeCheckpoint } from './apply.ts'
import { makeAuditor } from './audit.ts'
import type { ConsumeOptions } from './consume.ts'
import { letters, type RawMessage } from './letters.ts'
import { loadPositions, project } from './project.ts'

const counts = projection<any, any>({ collection: 'counts', indexes: [], on: { Counted: ({ id }) => update(id, { inc: { n: 1 } }) } })

/** A projector of these projections on an empty topic. */
async function projector (t: Test, projections: readonly AnyProjection[]) {
  const settings = await stores(t)
  const client = await MongoClient.connect(settings.MONGO_URL)
  const kafka = kafkaFor(settings)
  const admin = kafka.admin()
  await admin.connect()
  t.teardown(async () => await Promise.all([client.close(), admin.disconnect()]))
  const topic = settings.EVENTS_TOPIC
  await ensureTopic(admin, topic)
  const db = client.db()
  const options: ConsumeOptions = {
    db,
    kafka,
    admin,
    topic,
    groupId: topic,
    projections,
    declared: new Set(['Counted', 'Lent']),
    signal: new AbortController().signal,
    log: { info () {}, debug () {}, warn () {}, error () {} } as never,
    applied () {},
    disordered () {},
    leftOut () {},
    holding () {}
  }
  /** Applies messages of partition 0 to the projections, from where each stands. */
  const apply = async (messages: readonly RawMessage[], offsets: readonly number[]) => {
    const standing = projections.map((projection, index) => makeCheckpoint(projection, { topic, partition: 0 }, '', offsets[index]!))
    await checkpoints(db).insertMany(standing)
    const byProjection = new Map(projections.map((projection, index) => [projection, { checkpoint: standing[index]!, parked: new Map() }]))
    await project(options, 0, messages, { byProjection, auditor: makeAuditor(''), start: 0 })
  }
  return { db, topic, options, apply }
}

/** A message of the relay's. */
function message (offset: number, type: string, id: string): RawMessage {
  const row = { aggregate: 'counts', aggregateId: id, version: offset + 1, type, value: JSON.stringify({ task: 'update', data: { id, version: offset + 1 } }), requestId: 'r', traceparent: 't', time: new Date().toISOString() }
  return { timestamp: '0', offset: String(offset), ...messageOf(row, `00000001-${String(offset).padStart(16, '0')}-00000000`) }
}

const junk = (offset: number): RawMessage => ({ offset: String(offset), timestamp: '0', key: null, value: null })

t.test('a read model without checkpoints is not begun: it is to be built; with some, a new partition is', async t => {
  const { db, topic, options } = await projector(t, [counts])
  await t.rejects(loadPositions(options, 0), { message: /counts has no checkpoints/ })
  await checkpoints(db).insertOne(makeCheckpoint(counts, { topic, partition: 1 }, '', 0))
  t.match(await loadPositions(options, 0), { start: 0 })
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
