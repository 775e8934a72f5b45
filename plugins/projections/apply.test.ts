/** Writes and checkpoint in one transaction, against the real MongoDB. */
import t, { type Test } from 'tap'
import { MongoClient } from 'mongodb'
import { insert, projection, replace, update, type Document, type Envelope } from '@bifold/cqrs'
import { stores } from '@bifold/test'
import { apply, checkpoints, Fenced, type Stretch } from './apply.ts'

interface Count extends Document { n?: number }
interface Counted { type: 'Counted', id: string, data: { by: number } }
interface Named { type: 'Named', id: string, data: { bad?: boolean } }

const counts = projection<Counted | Named, Count>({
  collection: 'counts',
  indexes: [],
  on: {
    Counted: ({ id, data }) => update<Count>(id, { inc: { n: data.by } }),
    Named: ({ id, data }) => {
      if (data.bad) throw new Error('a bug in the projection')
      return insert<Count>({ _id: id, n: 0 })
    }
  }
})

const event = (offset: number, type: string, id: string, data: object) => ({
  message: { timestamp: '0', offset: String(offset), key: Buffer.from(id), value: Buffer.from('{}') },
  envelope: { type, id, data, record: {}, aggregate: 'counts', task: 'update', version: 1, time: new Date(), sequence: String(offset).padStart(4, '0'), requestId: '' } satisfies Envelope
})
const stretch = (events: ReturnType<typeof event>[], next: number): Stretch => ({ topic: 'topic', partition: 0, events, deadLetters: [], next })

async function mongo (t: Test) {
  const { MONGO_URL } = await stores(t)
  const client = await MongoClient.connect(MONGO_URL)
  t.teardown(async () => await client.close())
  const db = client.db()
  const docs = async () => await db.collection('counts').find().sort({ _id: 1 }).toArray()
  return { client, db, docs }
}

t.test('a counter and its checkpoint move together', async t => {
  const { client, db, docs } = await mongo(t)
  const { checkpoint } = await apply(client, db, counts, stretch([event(0, 'Counted', 'a', { by: 2 }), event(1, 'Counted', 'a', { by: 3 })], 2), undefined)
  t.match(checkpoint, { offset: 2, sequence: '0001' })
  t.same(await docs(), [{ _id: 'a', n: 5 }])
  t.match(await checkpoints(db).findOne({}), { projection: 'counts', partition: 0, offset: 2, sequence: '0001' })
})

t.test('a projector that lost its partition is fenced off, and has written nothing', async t => {
  const { client, db, docs } = await mongo(t)
  const first = await apply(client, db, counts, stretch([event(0, 'Counted', 'a', { by: 1 })], 1), undefined)
  await t.rejects(apply(client, db, counts, stretch([event(0, 'Counted', 'a', { by: 1 })], 1), undefined), { message: /another projector/ }, 'it began at the beginning, too')
  await apply(client, db, counts, stretch([event(1, 'Counted', 'a', { by: 1 })], 2), first.checkpoint)
  await t.rejects(apply(client, db, counts, stretch([event(1, 'Counted', 'a', { by: 1 })], 2), first.checkpoint), { message: /another projector/ }, 'it stands where it stood before')
  t.same(await docs(), [{ _id: 'a', n: 2 }])
})

t.test('two projectors that believe they own a partition: each event counts once', async t => {
  const { client, db, docs } = await mongo(t)
  const project = async () => {
    for (let offset = 0; offset < 20; offset++) {
      const from = await checkpoints(db).findOne({}) ?? undefined
      const at = from?.offset ?? 0
      if (at >= 20) return
      await apply(client, db, counts, stretch([event(at, 'Counted', 'a', { by: 1 })], at + 1), from).catch(error => {
        if (!(error instanceof Fenced)) throw error
      })
    }
  }
  await Promise.all([project(), project()])
  await project()
  t.same(await docs(), [{ _id: 'a', n: 20 }])
})

t.test('an event that a projection cannot take becomes a dead letter; the others are applied', async t => {
  const { client, db, docs } = await mongo(t)
  const { refused } = await apply(client, db, counts, stretch([event(0, 'Named', 'a', {}), event(1, 'Named', 'b', { bad: true }), event(2, 'Counted', 'a', { by: 1 })], 3), undefined)
  t.match(refused, [{ reason: /a bug in the projection/ }])
  t.same(await docs(), [{ _id: 'a', n: 1 }])
  t.match(await db.collection('deadLetters').find().toArray(), [{ _id: 'counts/topic/0/1', offset: 1, reason: /a bug/ }])
})

t.test('a document that was there although the event says that it is new is replaced', async t => {
  const { client, db, docs } = await mongo(t)
  await db.collection<Count>('counts').insertOne({ _id: 'a', n: 99 })
  const { refused, checkpoint } = await apply(client, db, counts, stretch([event(0, 'Named', 'a', {}), event(1, 'Counted', 'b', { by: 1 })], 5), undefined)
  t.same(refused, [])
  t.same(await docs(), [{ _id: 'a', n: 0 }, { _id: 'b', n: 1 }])
  t.match(checkpoint, { offset: 5 })
})

t.test('what MongoDB refuses of one document does not stop the others', async t => {
  const { client, db } = await mongo(t)
  const large = projection<Counted, Document & { text: string }>({ collection: 'large', indexes: [], on: { Counted: ({ id, data }) => replace({ _id: id, text: 'x'.repeat(data.by) }) } })
  const { refused } = await apply(client, db, large, stretch([event(0, 'Counted', 'a', { by: 1 }), event(1, 'Counted', 'b', { by: 17 * 1024 * 1024 }), event(2, 'Counted', 'c', { by: 1 })], 3), undefined)
  t.equal(refused.length, 1)
  t.same((await db.collection('large').find().sort({ _id: 1 }).toArray()).map(({ _id }) => _id), ['a', 'c'])
})
