/** Writes and checkpoint in one transaction, against the real MongoDB. */
import t, { type Test } from 'tap'
import { MongoClient, ObjectId, type Db } from 'mongodb'
import { forget, insert, note, projection, replace, update, type AnyProjection, type Document, type Envelope } from '@bifold/cqrs'
import { messageOf } from '@bifold/postgres'
import { stores } from '@bifold/test'
import { apply as applyTo, checkpoints, Fenced, type Checkpoint } from './apply.ts'
import { discard, findLetters, retry } from './dead-letters.ts'
import { letters, loadParked, type Parked } from './letters.ts'
import { notes } from './notes.ts'
import type { Stretch } from './plan.ts'

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

const event = (offset: number, type: string, id: string, data: object) => {
  const envelope: Envelope = { type, id, data, record: {}, aggregate: 'counts', task: 'update', schemaVersion: 1, version: offset + 1, time: new Date(), sequence: String(offset).padStart(4, '0'), requestId: 'r' }
  const row = { aggregate: 'counts', aggregateId: id, version: offset + 1, type, schemaVersion: 1, value: JSON.stringify({ task: 'update', data: { id, version: offset + 1 }, event: data }), requestId: 'r', traceparent: 't', time: envelope.time.toISOString() }
  return { message: { timestamp: '0', offset: String(offset), ...messageOf(row, envelope.sequence) }, envelope }
}
const stretch = (events: ReturnType<typeof event>[], next: number): Stretch => ({ topic: 'topic', partition: 0, events, unreadable: [], next })
const apply = async (client: MongoClient, db: Db, projection: AnyProjection, stretch: Stretch, checkpoint: Checkpoint | undefined, parked: Parked = new Map()) => await applyTo({ db, projection, parked }, stretch, checkpoint)

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

t.test('messages that are none of its own move the checkpoint, and the fence holds for them too', async t => {
  const { client, db } = await mongo(t)
  const { checkpoint } = await apply(client, db, counts, stretch([], 3), undefined)
  t.match(await checkpoints(db).findOne({}), { offset: 3, sequence: '' })
  await t.rejects(apply(client, db, counts, stretch([], 3), undefined), { message: /another projector/ })
  const counted = await apply(client, db, counts, stretch([event(3, 'Counted', 'a', { by: 1 })], 4), checkpoint)
  await t.rejects(apply(client, db, counts, stretch([], 5), checkpoint), { message: /another projector/ })
  await apply(client, db, counts, stretch([], 6), counted.checkpoint)
  t.match(await checkpoints(db).findOne({}), { offset: 6, sequence: '0003' })
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
  const { letters } = await apply(client, db, counts, stretch([event(0, 'Named', 'a', {}), event(1, 'Named', 'b', { bad: true }), event(2, 'Counted', 'a', { by: 1 })], 3), undefined)
  t.match(letters, [{ reason: /a bug in the projection/ }])
  t.same(await docs(), [{ _id: 'a', n: 1 }])
  t.match(await db.collection('deadLetters').find().toArray(), [{ projection: 'counts', topic: 'topic', partition: 0, offset: 1, aggregateId: 'b', waits: false, reason: /a bug/ }])
})

t.test('a document that was there although the event says that it is new is replaced', async t => {
  const { client, db, docs } = await mongo(t)
  await db.collection<Count>('counts').insertOne({ _id: 'a', n: 99 })
  const { letters, checkpoint } = await apply(client, db, counts, stretch([event(0, 'Named', 'a', {}), event(1, 'Counted', 'b', { by: 1 })], 5), undefined)
  t.same(letters, [])
  t.same(await docs(), [{ _id: 'a', n: 0 }, { _id: 'b', n: 1 }])
  t.match(checkpoint, { offset: 5 })
})

t.test('what MongoDB refuses of one document does not stop the others', async t => {
  const { client, db } = await mongo(t)
  const large = projection<Counted, Document & { text: string }>({ collection: 'large', indexes: [], on: { Counted: ({ id, data }) => replace({ _id: id, text: 'x'.repeat(data.by) }) } })
  const { letters } = await apply(client, db, large, stretch([event(0, 'Counted', 'a', { by: 1 }), event(1, 'Counted', 'b', { by: 17 * 1024 * 1024 }), event(2, 'Counted', 'c', { by: 1 })], 3), undefined)
  t.equal(letters.length, 1)
  t.same((await db.collection('large').find().sort({ _id: 1 }).toArray()).map(({ _id }) => _id), ['a', 'c'])
})

t.test('an event that cannot be applied parks its aggregate: the later ones wait in order, the others go on', async t => {
  const { client, db, docs } = await mongo(t)
  const parked: Parked = new Map()
  const first = await apply(client, db, counts, stretch([event(0, 'Named', 'a', { bad: true }), event(1, 'Counted', 'a', { by: 2 }), event(2, 'Counted', 'b', { by: 1 })], 3), undefined, parked)
  const second = await apply(client, db, counts, stretch([event(3, 'Counted', 'a', { by: 4 }), event(4, 'Counted', 'b', { by: 1 })], 5), first.checkpoint, parked)
  t.same(await docs(), [{ _id: 'b', n: 2 }])
  t.match(await letters(db).find().sort({ sequence: 1 }).toArray(), [{ offset: 0, waits: false, behind: 2 }, { offset: 1, waits: true }, { offset: 3, waits: true }])
  t.same(await loadParked(db, counts, 'topic', 0), parked, 'a projector that begins knows it')

  t.match(await retry(db, counts, 'a'), { applied: 0, left: 3, reason: /a bug in the projection/ })
  t.match(await findLetters(db, 'a'), [{ tries: 2 }])
  t.same(await docs(), [{ _id: 'b', n: 2 }], 'those behind were not tried')

  const mended = projection<Counted | Named, Count>({ ...counts, on: { ...counts.on, Named: ({ id }) => insert<Count>({ _id: id, n: 100 }) } })
  t.same(await retry(db, mended, 'a'), { applied: 3, left: 0 })
  t.same(await docs(), [{ _id: 'a', n: 106 }, { _id: 'b', n: 2 }])
  t.equal(await letters(db).countDocuments(), 0)

  const next = stretch([event(5, 'Counted', 'a', { by: 1 })], 6)
  await t.rejects(apply(client, db, mended, next, second.checkpoint, parked), { message: /not parked any more/ }, 'the projector that had parked it hears of it')
  await apply(client, db, mended, next, second.checkpoint, await loadParked(db, counts, 'topic', 0))
  t.same(await docs(), [{ _id: 'a', n: 107 }, { _id: 'b', n: 2 }])
})

t.test('the letter in front can be discarded, and no other', async t => {
  const { client, db, docs } = await mongo(t)
  await apply(client, db, counts, stretch([event(0, 'Named', 'a', { bad: true }), event(1, 'Counted', 'a', { by: 2 }), event(2, 'Named', 'a', { bad: true }), event(3, 'Counted', 'a', { by: 3 })], 4), undefined)
  const [head, second] = await letters(db).find().sort({ sequence: 1 }).toArray()
  await t.rejects(discard(db, second!), { message: /waits behind an earlier one/ })
  await discard(db, head!)
  t.match(await retry(db, counts, 'a'), { applied: 1, left: 2, reason: /a bug/ }, 'it goes on up to the next that cannot be applied')
  t.same(await docs(), [{ _id: 'a', n: 2 }])
  t.match(await findLetters(db, 'a'), [{ offset: 2, waits: false, behind: 1, tries: 1 }])
})

t.test('a projector that adds to what waits, while it is released: each event counts once', async t => {
  const { client, db, docs } = await mongo(t)
  const parked: Parked = new Map()
  let { checkpoint } = await apply(client, db, counts, stretch([event(0, 'Named', 'a', { bad: true })], 1), undefined, parked)
  const mended = projection<Counted | Named, Count>({ ...counts, on: { ...counts.on, Named: ({ id }) => insert<Count>({ _id: id, n: 0 }) } })
  const adding = (async () => {
    for (let offset = 1; offset <= 60; offset++) {
      const next = stretch([event(offset, 'Counted', 'a', { by: 1 })], offset + 1)
      const released = async (error: Error) => {
        if (!/not parked any more/.test(error.message)) throw error
        return await apply(client, db, mended, next, checkpoint, await loadParked(db, counts, 'topic', 0))
      }
      checkpoint = (await apply(client, db, mended, next, checkpoint, await loadParked(db, counts, 'topic', 0)).catch(released)).checkpoint
    }
  })()
  while (await letters(db).countDocuments() < 5);
  await retry(db, mended, 'a')
  await adding
  t.same(await retry(db, mended, 'a'), { applied: 0, left: 0 })
  t.same(await docs(), [{ _id: 'a', n: 60 }])
})

const junk = (offset: number, headers: Record<string, string> = {}) => ({ message: { offset: String(offset), timestamp: '0', key: null, value: null, headers }, reason: 'it is junk' })

t.test('a message that nobody can read is kept, whatever the names of its headers are', async t => {
  const { client, db, docs } = await mongo(t)
  const headers = Object.fromEntries(['a\0b', '$ref', '$set', 'a.b', '', '__proto__'].map(name => [name, 'x']))
  const { checkpoint, letters: alone } = await apply(client, db, counts, { ...stretch([], 1), unreadable: [junk(0, headers)] }, undefined)
  t.match(checkpoint, { offset: 1 })
  t.equal(alone.length, 1)
  await apply(client, db, counts, { ...stretch([event(2, 'Counted', 'a', { by: 1 })], 3), unreadable: [junk(1, headers)] }, checkpoint)
  t.same(await docs(), [{ _id: 'a', n: 1 }])
  const kept = await letters(db).find().sort({ offset: 1 }).toArray()
  t.match(kept, [{ offset: 0, reason: 'it is junk' }, { offset: 1 }])
  t.same(Object.keys(kept[0]!.headers).sort(), ['', '$ref', '$set', '__proto__', 'a.b', 'a␀b'])
})

t.test('what is past is kept, also when the stretch ends half-way', async t => {
  const { client, db } = await mongo(t)
  const gone: Parked = new Map([['c', new ObjectId()]])
  const large = projection<Counted, Document & { text: string }>({ collection: 'large', indexes: [], on: { Counted: ({ id, data }) => replace({ _id: id, text: 'x'.repeat(data.by) }) } })
  const events = [event(0, 'Counted', 'a', { by: 17 * 1024 * 1024 }), event(2, 'Counted', 'b', { by: 1 }), event(3, 'Counted', 'c', { by: 1 })]
  await t.rejects(apply(client, db, large, { ...stretch(events, 4), unreadable: [junk(1)] }, undefined, gone), { message: /not parked any more/ })
  t.match(await checkpoints(db).findOne(), { offset: 3 })
  t.match(await letters(db).find().sort({ offset: 1 }).toArray(), [{ offset: 0 }, { offset: 1, reason: 'it is junk' }])
})

t.test('a refused event that would park one aggregate too many ends the stretch', async t => {
  const { client, db } = await mongo(t)
  const many: Parked = new Map(Array.from({ length: 10_000 }, (_, n) => [`other ${n}`, new ObjectId()]))
  const large = projection<Counted, Document & { text: string }>({ collection: 'large', indexes: [], on: { Counted: ({ id, data }) => replace({ _id: id, text: 'x'.repeat(data.by) }) } })
  await t.rejects(apply(client, db, large, stretch([event(0, 'Counted', 'a', { by: 17 * 1024 * 1024 })], 1), undefined, many), { message: /More than 10000 aggregates would be parked/ })
  t.equal(await checkpoints(db).countDocuments(), 0)
})

t.test('what MongoDB does not even keep as a letter is told, and not passed over', async t => {
  const { client, db } = await mongo(t)
  await db.createCollection('deadLetters', { validator: { reason: { $ne: 'it is junk' }, aggregateId: { $ne: 'b' } } })
  const bad = event(1, 'Named', 'b', { bad: true })
  for (const events of [[], [event(1, 'Counted', 'a', { by: 1 })]]) {
    await t.rejects(apply(client, db, counts, { ...stretch(events, 2), unreadable: [junk(0)] }, undefined), { message: /failed validation/ })
    t.equal(await checkpoints(db).countDocuments(), 0)
  }
  await t.rejects(apply(client, db, counts, stretch([event(0, 'Counted', 'a', { by: 1 }), bad], 2), undefined), { message: /failed validation/ })
  t.match(await checkpoints(db).findOne(), { offset: 1 })
})

t.test('an event with a name that every object has is known to no projection', async t => {
  const { client, db } = await mongo(t)
  const { letters } = await apply(client, db, counts, stretch([event(0, 'constructor', 'a', {})], 1), undefined)
  t.match(letters, [{ reason: 'no projection knows constructor' }])
})

interface Sum extends Document { n: number }
interface Last extends Document { by: number }
interface Moved { type: 'Moved', id: string, version: number, data: { by: number, also?: string } }
interface Ended { type: 'Ended', id: string, version: number, data: object }

/** The sum of what each aggregate last said: what it said before has to be known. */
const sums = projection<Moved | Ended, Sum, Last>({
  collection: 'sums',
  indexes: [],
  notes: ({ id }) => [id],
  on: {
    Moved: ({ id, data: { by } }, notes) => [update<Sum>('all', { inc: { n: by - (notes.get(id)?.by ?? 0) } }), note({ _id: id, by })],
    Ended: ({ id }, notes) => [update<Sum>('all', { inc: { n: -notes.get(id)!.by } }), forget(id)]
  }
})
const sum = async (db: Db) => (await db.collection<Sum>('sums').findOne({ _id: 'all' }))?.n

t.test('a handler sees what earlier events have noted, of the same stretch and of earlier ones', async t => {
  const { client, db } = await mongo(t)
  const { checkpoint } = await apply(client, db, sums, stretch([event(0, 'Moved', 'a', { by: 5 }), event(1, 'Moved', 'b', { by: 1 }), event(2, 'Moved', 'a', { by: 3 })], 3), undefined)
  t.equal(await sum(db), 4)
  await apply(client, db, sums, stretch([event(3, 'Moved', 'a', { by: 10 }), event(4, 'Ended', 'b', {})], 5), checkpoint)
  t.equal(await sum(db), 10)
  t.same(await notes(db, sums).find().sort({ _id: 1 }).toArray(), [{ _id: 'a', note: { _id: 'a', by: 10 }, version: 4 }, { _id: 'b', version: 5 }])
})

t.test('a note that was not named is not seen: the event is kept as a dead letter', async t => {
  const { client, db } = await mongo(t)
  const { letters: kept } = await apply(client, db, { ...sums, notes: () => [] }, stretch([event(0, 'Moved', 'a', { by: 5 })], 1), undefined)
  t.match(kept, [{ reason: /does not say that Moved sees the note 'a'/ }])
})

t.test('two partitions that read and change the same notes at once: as one after the other', async t => {
  const { db } = await mongo(t)
  await db.createCollection('sums')
  await notes(db, sums).insertOne({ _id: 'shared', note: { _id: 'shared' } })
  /** Each event adds one to a note of both partitions, and shows what it found there: no two find the same. */
  const found = projection<Moved, Sum, Sum>({
    ...sums as object,
    collection: 'sums',
    indexes: [],
    notes: () => ['shared'],
    on: {
      Moved: ({ id, version }, notes) => {
        const n = (notes.get('shared')?.n ?? 0) + 1
        return [note({ _id: 'shared', n }), insert<Sum>({ _id: `${id}-${version}`, n })]
      }
    }
  })
  const run = async (partition: number) => {
    let from: Checkpoint | undefined
    for (let offset = 0; offset < 30; offset++) {
      from = (await applyTo({ db, projection: found, parked: new Map() }, { ...stretch([event(offset, 'Moved', `p${partition}`, { by: 1 })], offset + 1), partition }, from)).checkpoint
    }
  }
  await Promise.all([run(0), run(1)])
  const numbers = (await db.collection<Sum>('sums').find().toArray()).map(({ n }) => n)
  t.same(numbers.sort((a, b) => a - b), Array.from({ length: 60 }, (_, index) => index + 1))
})

t.test('a note that is only read is not changed by another meanwhile', async t => {
  const { db } = await mongo(t)
  for (const name of ['sums', 'sums.notes']) await db.createCollection(name)
  /** Whoever comes first is the first, and the other sees it: each notes itself, and reads the other. */
  const first = projection<Moved, Document & { first: boolean }, Document>({
    collection: 'sums',
    indexes: [],
    notes: ({ id, data: { also } }) => [id, also!],
    on: { Moved: ({ id, data: { also } }, notes) => [insert({ _id: id, first: notes.get(also!) === undefined }), note({ _id: id })] }
  })
  for (let round = 0; round < 15; round++) {
    const run = async (partition: number, id: string, also: string) => {
      const [from] = await checkpoints(db).find({ partition }).toArray()
      await applyTo({ db, projection: first, parked: new Map() }, { ...stretch([event(round, 'Moved', id, { by: 1, also })], round + 1), partition }, from)
    }
    await Promise.all([run(0, `a${round}`, `b${round}`), run(1, `b${round}`, `a${round}`)])
    t.equal(await db.collection('sums').countDocuments({ _id: { $in: [`a${round}`, `b${round}`] as never[] }, first: true }), 1)
  }
})

t.test('the version of an aggregate is kept where no document shows it', async t => {
  const { client, db } = await mongo(t)
  const shown = projection<Moved | Ended, Document & { version: number }>({
    collection: 'sums',
    indexes: [],
    on: { Moved: ({ id, version }) => replace({ _id: id, version }), Ended: ({ id }) => ({ op: 'remove', id }) }
  })
  const { checkpoint } = await apply(client, db, shown, stretch([event(0, 'Moved', 'a', { by: 1 }), event(1, 'Moved', 'b', { by: 1 })], 2), undefined)
  t.equal(await notes(db, shown).countDocuments(), 0)
  await apply(client, db, shown, stretch([event(2, 'Ended', 'a', {})], 3), checkpoint)
  t.same(await notes(db, shown).find().toArray(), [{ _id: 'a', version: 3 }])
})

t.test('a projection that fails to name the notes of an event parks the aggregate of that one only', async t => {
  const { client, db } = await mongo(t)
  const named = (event: Moved | Ended) => {
    if (event.id === 'a') throw new Error('a bug in the notes')
    return [event.id]
  }
  const { letters: kept } = await apply(client, db, { ...sums, notes: named } as AnyProjection, stretch([event(0, 'Moved', 'a', { by: 5 }), event(1, 'Moved', 'b', { by: 1 })], 2), undefined)
  t.match(kept, [{ aggregateId: 'a', reason: /a bug in the notes/ }])
  t.equal(await sum(db), 1)
})
