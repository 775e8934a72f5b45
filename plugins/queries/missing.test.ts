/** A read model that is not there is not an empty one: where a read finds nothing, it is told apart, and that costs next to nothing. */
import t, { type Test } from 'tap'
import { setTimeout } from 'node:timers/promises'
import { credentials, status, type ServiceError } from '@grpc/grpc-js'
import { MongoClient } from 'mongodb'
import { modules } from '@bifold/modules'
import { booksV1 } from '@bifold/proto'
import { call, startApp, stores, until } from '@bifold/test'
import { makeReadModel } from './read-model.ts'

const id = (n: number) => `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`
const emma = { _id: id(1), version: 1, title: 'Emma', authors: ['Jane Austen'] }

async function database (t: Test) {
  const settings = await stores(t)
  const client = await MongoClient.connect(settings.MONGO_URL, { monitorCommands: true })
  t.teardown(async () => await client.close())
  return { settings, client, db: client.db() }
}

async function service (t: Test) {
  const { settings, db } = await database(t)
  for (const { collection } of modules.flatMap(({ projections }) => projections)) if (collection !== 'books') await db.createCollection(collection)
  const { app, url } = await startApp(t, 'query', settings, { ready: false })
  const rpc = new booksV1.BookQueryServiceClient(`127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`, credentials.createInsecure())
  t.teardown(() => rpc.close())
  const get = async (path: string) => {
    const response = await fetch(`${url}${path}`)
    return { status: response.status, retryAfter: response.headers.get('retry-after'), body: await response.json() as any }
  }
  return { db, rpc, get }
}

t.test('dropped, not there, and then created', async t => {
  const { db, rpc, get } = await service(t)
  const paths = [`/books/${id(1)}`, '/books', `/books:batchGet?ids=${id(1)}`]
  const notReady = { status: 503, retryAfter: '1', body: { code: 'READ_MODEL_NOT_READY', detail: "The read model 'books' is being built" } }
  const calls = [
    async () => await call(rpc.getBook.bind(rpc), { id: id(1) }),
    async () => await call(rpc.listBooks.bind(rpc), booksV1.ListBooksRequest.fromPartial({})),
    async () => await call(rpc.batchGetBooks.bind(rpc), { ids: [id(1)] })
  ]
  for (const path of paths) t.match(await get(path), notReady, path)
  for (const read of calls) {
    const error = await read().then(() => undefined, (error: ServiceError) => error)
    t.match(error, { code: status.UNAVAILABLE, details: "The read model 'books' is being built" })
    t.same(error!.metadata.get('error-code'), ['READ_MODEL_NOT_READY'])
  }
  t.match(await get('/health/ready'), { status: 503, body: { checks: { 'read models': { ok: false, reason: 'being built: books' } } } })

  await db.createCollection('books')
  t.match(await get(paths[0]!), { status: 404, body: { code: 'BOOKS_NOT_FOUND' } }, 'known at once')
  t.strictSame((await get(paths[1]!)).body, {}, 'an empty list')
  t.match(await get(paths[2]!), { status: 200, body: { missingIds: [id(1)] } })
  t.match(await get('/health/ready'), { status: 200, body: { checks: { 'read models': { ok: true } } } })

  await db.collection('books').insertOne(emma as never)
  for (const path of paths) t.equal((await get(path)).status, 200)
  for (const read of calls) await t.resolves(read())
  t.match(await get(`/books/${id(2)}`), { status: 404 }, 'what is not there of it is not found')
  t.strictSame((await get('/books?author=Nobody')).body, {})

  await db.collection('books').drop()
  for (const path of paths) await until(async () => (await get(path)).status === 503, `${path} to be refused`)
  t.match(await get(paths[0]!), notReady)
})

t.test('a book is never called missing while its read model comes into being', async t => {
  const { db, get } = await service(t)
  const answers: Record<string, number> = {}
  for (let round = 0; round < 5; round++) {
    const end = new AbortController()
    const readers = Array.from({ length: 8 }, async (_, index) => {
      while (!end.signal.aborted) {
        const { status, body } = await get(index % 2 === 0 ? `/books/${id(1)}` : '/books')
        const answer = status === 200 ? body.title ?? body.books?.[0].title ?? 'an empty list' : String(status)
        answers[answer] = (answers[answer] ?? 0) + 1
      }
    })
    await db.collection<{ _id: string }>('books.build-0').insertOne(emma)
    await setTimeout(50) // the readers are at work
    await db.renameCollection('books.build-0', 'books')
    await until(async () => (await get(`/books/${id(1)}`)).status === 200, 'the book')
    end.abort()
    await Promise.all(readers)
    await db.collection('books').drop()
    await until(async () => (await get(`/books/${id(1)}`)).status === 503 && (await get('/books')).status === 503, 'it to be missed')
  }
  t.same(Object.keys(answers).sort(), ['503', 'Emma'], JSON.stringify(answers))
})

t.test('reads that find nothing ask once a second whether there is anything, all together', async t => {
  const { client, db } = await database(t)
  await db.createCollection('books')
  const asked = { find: 0, listCollections: 0 }
  client.on('commandStarted', ({ commandName }) => { if (commandName in asked) asked[commandName as keyof typeof asked]++ })
  const model = makeReadModel(db, 'books')
  const reads = async (count: number) => await Promise.all(Array.from({ length: count }, async () => await model.find({ _id: id(1) as never }, {}, 5000)))
  const begun = performance.now()
  await reads(100)
  t.same(asked, { find: 200, listCollections: 1 }, 'the first of all are made sure, and read again')
  await reads(100)
  if (performance.now() - begun < 1000) t.same(asked, { find: 300, listCollections: 1 }, 'then it is remembered')
  await setTimeout(1000)
  await reads(1)
  t.equal(asked.listCollections, 2)
  await db.collection<{ _id: string }>('books').insertOne(emma)
  await setTimeout(1000)
  await reads(100)
  t.equal(asked.listCollections, 2, 'what is found needs no question')
})
