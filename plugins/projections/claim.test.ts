/** A builder that is killed in the middle of the switch, or frozen and thawed later: whoever comes next settles it. */
import t, { type Test } from 'tap'
import { MongoClient } from 'mongodb'
import { connect } from '@bifold/mongo'
import { projection, type AnyProjection, type Envelope } from '@bifold/cqrs'
import { stores, topicFor } from '@bifold/test'
import { apply, checkpoints, makeCheckpoint, type Checkpoint } from './apply.ts'
import { claim, install } from './claim.ts'
import { retry } from './dead-letters.ts'
import { fillEmpty } from './fill.ts'
import { letters, makeLetter } from './letters.ts'
import { notes } from './notes.ts'

const counts: AnyProjection = projection<any, any>({ collection: 'counts', indexes: [], on: {} })
const at = { topic: 'topic', partition: 0 }

const killed = async () => { throw new Error('killed') }

/** A live read model with one document, and one beside it that is ready to take its place. */
async function built (t: Test) {
  const client = await MongoClient.connect((await stores(t)).MONGO_URL)
  t.teardown(async () => await client.close())
  const db = client.db()
  await db.collection('counts').insertOne({ of: 'live' })
  await checkpoints(db).insertOne(makeCheckpoint(counts, at, 'a', 1))
  const build = await claim(db, counts)
  t.teardown(async () => await build.release())
  await db.collection(build.next.collection).insertOne({ of: 'new' })
  await notes(db, counts).insertOne({ _id: 'live', version: 1 })
  await notes(db, build.next).insertOne({ _id: 'new', version: 2 })
  await checkpoints(db).insertOne(makeCheckpoint(build.next, at, 'b', 2))
  const letter = (of: AnyProjection, offset: number, aggregateId?: string) => {
    const message = { offset: String(offset), timestamp: '0', key: null, value: null }
    const envelope = aggregateId === undefined ? {} : { envelope: { id: aggregateId, sequence: '', version: 1 } as Envelope }
    return makeLetter(of, at, { message, ...envelope, reason: 'for a reason', tries: 1, waits: false })
  }
  const stale = async () => await db.collection('builds').updateOne({}, { $set: { at: new Date(0) } })
  const shown = async () => ({ docs: (await db.collection('counts').find().toArray()).map(({ of }) => of as string), notes: (await notes(db, counts).find().toArray()).map(({ _id }) => _id), checkpoints: (await checkpoints(db).find().toArray()).map(({ _id, offset }) => `${_id} ${offset}`) })
  const collections = async () => (await db.listCollections({ name: /\.(build|old)-/ }).toArray()).map(({ name }) => name).sort()
  return { db, build, letter, stale, shown, collections }
}

t.test('one that cannot be let go of holds up no other', async t => {
  const settings = await stores(t)
  const client = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => await client.close())
  const admin = await topicFor(t, settings)
  const db = client.db()
  await db.createCollection('builds', { validator: { $nor: [{ _id: 'counts', next: '' }] } }) // as if MongoDB were away just then
  const options = { url: 'postgres://127.0.0.1:1/nowhere', db, admin, topic: settings.EVENTS_TOPIC, declared: new Set<string>(), signal: new AbortController().signal, log: { info () {} } as never, building () {} }
  await t.rejects(fillEmpty(options, [counts, { ...counts, collection: 'others' }]), { message: /ECONNREFUSED/ }, 'the first fault is told')
  t.same((await db.collection('builds').find().toArray()).map(({ _id }) => String(_id)), ['counts'])
})

t.test('one that was killed in the midst of a transaction does not hold up the next', async t => {
  const { MONGO_URL } = await stores(t)
  const [killed, next] = [connect(MONGO_URL), connect(MONGO_URL)]
  t.teardown(async () => await Promise.all([killed.close(), next.close()]))
  await next.db().collection<{ _id: string }>('builds').insertOne({ _id: 'counts' }) // nobody's: it has no time
  const session = killed.startSession()
  session.startTransaction()
  await killed.db().collection<{ _id: string }>('builds').updateOne({ _id: 'counts' }, { $set: { saved: [] } }, { session })
  const begun = Date.now()
  const build = await claim(next.db(), counts)
  t.ok(Date.now() - begun < 30_000, `${Date.now() - begun} ms`) // MongoDB itself ends it after 60 s at the earliest
  await build.release()
  await t.rejects(session.commitTransaction(), /has been aborted/)
})

t.test('the switch', async t => {
  const { db, build, shown } = await built(t)
  await install(db, [build], async live => {
    t.match(live, [{ checkpoints: [{ offset: 1 }] }])
    t.equal(await checkpoints(db).countDocuments({ projection: 'counts' }), 0, 'nobody works on it meanwhile')
  })
  t.same(await shown(), { docs: ['new'], notes: ['new'], checkpoints: ['counts/topic/0 2'] })
  t.equal(await db.collection('builds').countDocuments(), 0)
})

t.test('whoever worked on the one before is fenced off, though the new one stands where that stood', async t => {
  const { db, build } = await built(t)
  const before = (await checkpoints(db).findOne({ projection: 'counts' }))!
  await checkpoints(db).updateOne({ projection: build.next.collection }, { $set: { offset: before.offset, sequence: before.sequence } })
  await install(db, [build], async () => {})
  const move = async (from: Checkpoint) => await apply({ db, projection: counts, parked: new Map() }, { ...at, events: [], unreadable: [], next: 3 }, from)
  await t.rejects(move(before), { message: /another projector/ })
  t.match((await move((await checkpoints(db).findOne())!)).checkpoint, { offset: 3 })
})

t.test('the letters of what nobody can read stay, each once; those of aggregates are of what was built', async t => {
  const { db, build, letter } = await built(t)
  await letters(db).insertMany([letter(counts, 0), letter(counts, 0, 'a'), letter(build.next, 0), letter(build.next, 1), letter(build.next, 1, 'b')])
  const kept = await letters(db).findOne({ projection: 'counts', aggregateId: null })
  await install(db, [build], async () => {})
  const found = await letters(db).find().sort({ aggregateId: 1, offset: 1 }).toArray()
  t.match(found, [{ _id: kept!._id, offset: 0, aggregateId: null }, { offset: 1, aggregateId: null }, { offset: 1, aggregateId: 'b' }].map(letter => ({ ...letter, projection: 'counts' })))
  t.equal(found.length, 3)
})

t.test('no letter is applied while the new one is not in its place with its own', async t => {
  const { db, build, letter } = await built(t)
  await letters(db).insertOne(letter(counts, 0, 'a'))
  await t.rejects(install(db, [build], killed))
  await db.renameCollection(build.next.collection, 'counts', { dropTarget: true })
  await t.rejects(retry(db, counts, 'a'), { message: /counts is being rebuilt: try again/ })
  t.match(await letters(db).findOne(), { tries: 1 }, 'it was not tried')
})

t.test('killed while the live one stands still: that goes on where it stood', async t => {
  const { db, build, stale, shown, collections } = await built(t)
  await t.rejects(install(db, [build], killed))
  t.same((await shown()).checkpoints, [`${build.next.collection}/topic/0 2`])
  await t.rejects(claim(db, counts), { message: /is being built by somebody else/ })
  await stale()
  const again = await claim(db, counts)
  t.same(await shown(), { docs: ['live'], notes: ['live'], checkpoints: ['counts/topic/0 1'] })
  t.same(await collections(), [again.next.collection, `${again.next.collection}.notes`])
  await again.release()
  t.same(await collections(), [])
  t.equal(await db.collection('builds').countDocuments(), 0)
})

t.test('killed after the renaming: it is brought to its end', async t => {
  const { db, build, stale, shown } = await built(t)
  await t.rejects(install(db, [build], killed))
  await db.renameCollection(build.next.collection, 'counts', { dropTarget: true })
  await stale()
  const again = await claim(db, counts)
  t.same(await shown(), { docs: ['new'], notes: ['new'], checkpoints: ['counts/topic/0 2'] })
  await again.release()
  t.equal(await db.collection('builds').countDocuments(), 0)
})

t.test('the server killed between the two renames: what was live is so again', async t => {
  const { db, build, stale, shown, collections } = await built(t)
  await t.rejects(install(db, [build], killed))
  await db.collection('builds').updateOne({}, { $set: { old: 'counts.old-0' } })
  await db.renameCollection('counts', 'counts.old-0')
  await stale()
  const again = await claim(db, counts)
  t.same(await shown(), { docs: ['live'], notes: ['live'], checkpoints: ['counts/topic/0 1'] })
  await again.release()
  t.same(await collections(), [])
})

t.test('frozen while the live one stood still, and thawed when somebody else has taken over: it renames nothing', async t => {
  const { db, build, stale, shown } = await built(t)
  await t.rejects(install(db, [build], async () => {
    await stale()
    const again = await claim(db, counts)
    t.teardown(async () => await again.release())
  }))
  t.same(await shown(), { docs: ['live'], notes: ['live'], checkpoints: ['counts/topic/0 1'] })
})

t.test('frozen until somebody else had taken over, and what has its name is not what it built any more: it renames nothing', async t => {
  const { db, build, stale, shown } = await built(t)
  await t.rejects(install(db, [build], async () => {
    await stale()
    const again = await claim(db, counts)
    t.teardown(async () => await again.release())
    await db.collection(build.next.collection).insertOne({ of: 'part of the new' })
  }), { message: /somebody else has taken over/ })
  t.same(await shown(), { docs: ['live'], notes: ['live'], checkpoints: ['counts/topic/0 1'] })
})

t.test('a claim that is renewed is left alone, also by one whose clock is fast', async t => {
  const { db } = await built(t)
  const now = Date.now
  t.intercept(Date, 'now', { value: () => now() + 60_000 })
  await t.rejects(claim(db, counts), { message: /is being built by somebody else/ })
})
