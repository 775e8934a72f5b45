/** Where a projector begins in a partition, and what it makes of what it finds there. */
import t, { type Test } from 'tap'
import { MongoClient } from 'mongodb'
import { projection, update, type AnyProjection } from '@bifold/cqrs'
import { ensureTopic } from '@bifold/kafka'
import { kafkaFor, stores } from '@bifold/test'
import { checkpoints, makeCheckpoint } from './apply.ts'
import { loadPositions } from './project.ts'

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
  return { db, topic, options: { db, kafka, admin, topic, projections, leftOut () {} } as never }
}

t.test('a read model without checkpoints is not begun: it is to be built; with some, a new partition is', async t => {
  const { db, topic, options } = await projector(t, [counts])
  await t.rejects(loadPositions(options, 0), { message: /counts has no checkpoints/ })
  await checkpoints(db).insertOne(makeCheckpoint(counts, { topic, partition: 1 }, '', 0))
  t.match(await loadPositions(options, 0), { start: 0 })
})
