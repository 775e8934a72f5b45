/** The exchange of two collections, whatever becomes of it, and the removal of the old one. */
import { setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { MongoClient } from 'mongodb'
import { projection, type AnyProjection } from '@bifold/cqrs'
import { servers, stores } from '@bifold/test'
import { readEnv } from '@bifold/stack'
import { nameToKeep, removeOld, takePlace } from './grace.ts'

const counts: AnyProjection = projection<any, any>({ collection: 'counts', indexes: [], on: {} })

async function mongo (t: Test, options = '', url?: string) {
  const client = await MongoClient.connect(`${url ?? (await stores(t)).MONGO_URL}${options}`)
  t.teardown(async () => await client.close())
  const db = client.db()
  const make = async (...names: readonly string[]) => { for (const name of names) await db.collection(name).insertOne({ of: name }) }
  /** What is in each collection. */
  const shown = async () => {
    const names = (await db.listCollections().toArray()).map(({ name }) => name).sort()
    return Object.fromEntries(await Promise.all(names.map(async name => [name, (await db.collection(name).find().toArray()).map(({ of }) => of as string)])))
  }
  return { db, make, shown }
}

t.test('whoever reads finds the one or the other, and never nothing', async t => {
  const { db, make, shown } = await mongo(t)
  await make('counts')
  const end = new AbortController()
  const found: unknown[] = []
  const read = async () => { while (!end.signal.aborted) found.push((await db.collection('counts').findOne())?.['of']) }
  const reading = Promise.all([read(), read(), read()])
  for (let round = 0; round < 20; round++) {
    await make(`next-${round}`)
    const old = await nameToKeep(db, 'counts')
    t.equal(await takePlace(db, `next-${round}`, 'counts', old), old)
  }
  end.abort()
  await reading
  t.ok(found.length > 100)
  t.ok(found.every(of => typeof of === 'string'))
  const { counts, ...old } = await shown()
  t.same(counts, ['next-19'])
  t.same(Object.values(old).flat(), ['counts', ...Array.from({ length: 19 }, (_, round) => `next-${round}`)], 'in the order of their times')
})

t.test('where the new one is gone, the live one stays', async t => {
  const { db, make, shown } = await mongo(t)
  await make('counts')
  await t.rejects(takePlace(db, 'gone', 'counts', 'counts.old-0'), { message: /non-existent|does not exist/ })
  t.same(await shown(), { counts: ['counts'] })
})

t.test('where the server refuses it, the live one is renamed over, and not kept', async t => {
  const { db, make, shown } = await mongo(t)
  await make('counts', 'next')
  t.equal(await takePlace(db, 'next', 'counts', 'not a $name'), undefined)
  t.same(await shown(), { counts: ['next'] })
})

t.test('nothing is kept where there is nothing, or where secondaries are read, which would show the one rename without the other', async t => {
  const { db } = await mongo(t)
  t.equal(await nameToKeep(db, 'counts'), undefined)
  const { db: reader, make } = await mongo(t, '&readPreference=secondaryPreferred')
  await make('counts')
  t.equal(await nameToKeep(reader, 'counts'), undefined)
})

t.test('only what was kept for long enough is removed', async t => {
  const { db, make, shown } = await mongo(t)
  const at = (minutesAgo: number) => new Date(Date.now() - minutesAgo * 60_000).toISOString()
  const [due, early] = [`counts.old-${at(11)}`, `counts.old-${at(9)}`]
  const others = ['counts.old-from before the migration', 'counts.old-backup', `others.old-${at(11)}`, 'counts.build-0']
  await make('counts', due, early, ...others)
  await removeOld(db, [counts], 10 * 60_000)
  t.same(Object.keys(await shown()).sort(), ['counts', early, ...others].sort())
})

t.test("a stranger's open transaction holds up the exchange, which holds up nobody", async t => {
  const { POSTGRES_URL, KAFKA_BROKERS } = await stores(t)
  const own = await servers(t, { given: { POSTGRES_URL, KAFKA_BROKERS } }) // on that of all tests it would be in the way of others
  const { db, make, shown } = await mongo(t, '', (await readEnv(own.dir))!.MONGO_URL)
  const others = db.client.db('of_a_stranger')
  await others.collection('others').insertOne({ of: 'nobody' })
  const session = db.client.startSession()
  t.teardown(async () => await session.endSession())
  session.startTransaction()
  await others.collection('others').updateOne({}, { $set: { of: 'a stranger' } }, { session })
  await make('counts', 'next')
  const end = new AbortController()
  let slowest = 0
  const reading = (async () => {
    while (!end.signal.aborted) {
      const begun = performance.now()
      await db.collection('counts').findOne()
      slowest = Math.max(slowest, performance.now() - begun)
    }
  })()
  const placed = await takePlace(db, 'next', 'counts', await nameToKeep(db, 'counts'))
  end.abort()
  await reading
  t.equal(placed, undefined, 'it has taken the place in the way that needs no lock of the whole server')
  t.same(await shown(), { counts: ['next'] })
  t.ok(slowest < 10_000, `a read took ${slowest} ms, and not the minute that MongoDB gives a transaction`)
  await session.abortTransaction()
})

t.test("a stranger's transaction that ends soon is waited for, and the one before is kept", async t => {
  const { db, make, shown } = await mongo(t)
  await make('counts', 'next', 'others')
  const session = db.client.startSession()
  t.teardown(async () => await session.endSession())
  session.startTransaction()
  await db.collection('others').updateOne({}, { $set: { of: 'a stranger' } }, { session })
  const old = await nameToKeep(db, 'counts')
  const placing = takePlace(db, 'next', 'counts', old)
  await setTimeout(700)
  await session.commitTransaction()
  t.equal(await placing, old)
  t.same(await shown(), { counts: ['next'], [old!]: ['counts'], others: ['a stranger'] })
})
