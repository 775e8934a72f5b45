/** The comparison on a real PostgreSQL and MongoDB. */
import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { modules } from '@bifold/modules'
import { connect as connectMongo } from '@bifold/mongo'
import { connect as connectPostgres, type Db } from '@bifold/postgres'
import { stores } from '@bifold/test'
import { comparable, compare, type ReadSide } from './compare.ts'

const book = comparable(modules).find(({ name }) => name === 'books')!

/** Both sides with the same books, in databases of their own. */
async function sides (t: Test, count: number) {
  const { POSTGRES_URL, MONGO_URL } = await stores(t)
  const db = connectPostgres(POSTGRES_URL, 1)
  const client = connectMongo(MONGO_URL, 2)
  const mongo = client.db()
  t.teardown(async () => {
    await db.destroy()
    await client.close()
  })
  for (const { up } of Object.values(book.store.migrations)) await up(db as never)
  const ids = Array.from({ length: count }, () => randomUUID()).sort()
  await save(db, ids)
  const documents = mongo.collection<{ _id: string | number }>('books')
  if (count > 0) await documents.insertMany(ids.map(id => ({ _id: id, version: 1, ...details(id) })))
  return { db, mongo: mongo as unknown as ReadSide, documents, ids }
}

const details = (id: string) => ({ title: `Book ${id}`, authors: ['Ж', 'é'], publishedYear: -5, price: 899 })

async function save (db: Db, ids: readonly string[], status = 'listed') {
  await db.executeQuery(book.store.save(db as never, ids.map(id => ({ id, version: 1, state: { status, details: details(id) } }))))
}

t.test('two sides with the same records are equal, over several pages', async t => {
  const { db, mongo } = await sides(t, 2500)
  t.match(await compare(db, mongo, book), { name: 'books', postgres: 2500, mongo: 2500, equal: 2500, missing: 0, extra: 0, differing: 0, differences: [] })
})

t.test('nothing equals nothing', async t => {
  const { db, mongo } = await sides(t, 0)
  t.match(await compare(db, mongo, book), { postgres: 0, mongo: 0, equal: 0, missing: 0, extra: 0, differing: 0 })
})

t.test('missing, extra and differing records are told, wherever they stand', async t => {
  const { db, mongo, documents, ids } = await sides(t, 6)
  const [first, second, third, fourth, , last] = ids as [string, string, string, string, string, string]
  const before = '00000000-0000-7000-8000-000000000000'
  await documents.deleteMany({ _id: { $in: [first, last] } })
  await documents.insertMany([{ _id: before }, { _id: 7 }, { _id: 'zzz' }])
  await documents.updateOne({ _id: second }, { $set: { 'authors.1': 'e', version: 2 } })
  await documents.updateOne({ _id: third }, { $set: { category: 'stale' }, $unset: { price: 1 } })
  await documents.updateOne({ _id: fourth }, { $set: { _bytes: 'the projector\'s own' } })
  t.match(await compare(db, mongo, book), { postgres: 6, mongo: 7, equal: 2, missing: 2, extra: 3, differing: 2 })
  t.same((await compare(db, mongo, book)).differences, [
    { kind: 'extra', id: 7, fields: [] },
    { kind: 'extra', id: before, fields: [] },
    { kind: 'missing', id: first, fields: [] },
    { kind: 'differing', id: second, fields: [{ field: 'version', postgres: 1, mongo: 2 }, { field: 'authors', postgres: ['Ж', 'é'], mongo: ['Ж', 'e'] }] },
    { kind: 'differing', id: third, fields: [{ field: 'price', postgres: 899, mongo: undefined }, { field: 'category', postgres: undefined, mongo: 'stale' }] },
    { kind: 'missing', id: last, fields: [] },
    { kind: 'extra', id: 'zzz', fields: [] }
  ])
})

t.test('a withdrawn book that is still in MongoDB is extra', async t => {
  const { db, mongo, ids } = await sides(t, 3)
  await save(db, [ids[1]!], 'withdrawn')
  t.match(await compare(db, mongo, book), { postgres: 2, mongo: 3, equal: 2, extra: 1, differences: [{ kind: 'extra', id: ids[1] }] })
})

t.test('of many differences the first ten are kept and all are counted', async t => {
  const { db, mongo, documents } = await sides(t, 25)
  await documents.deleteMany({})
  const { missing, differences } = await compare(db, mongo, book)
  t.equal(missing, 25)
  t.equal(differences.length, 10)
})
