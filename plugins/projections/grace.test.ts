/** The exchange of two collections, whatever becomes of it, and the removal of the old one. */
import t, { type Test } from 'tap'
import { MongoClient } from 'mongodb'
import { projection, type AnyProjection } from '@bifold/cqrs'
import { stores } from '@bifold/test'
import { nameToKeep, removeOld, takePlace } from './grace.ts'

const counts: AnyProjection = projection<any, any>({ collection: 'counts', indexes: [], on: {} })

async function mongo (t: Test, options = '') {
  const client = await MongoClient.connect(`${(await stores(t)).MONGO_URL}${options}`)
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
