/** Readers never notice that a rebuild puts a new collection in the place of the one that they read. */
import t, { type Test } from 'tap'
import { setTimeout } from 'node:timers/promises'
import { credentials } from '@grpc/grpc-js'
import { MongoClient } from 'mongodb'
import { booksV1 } from '@bifold/proto'
import { connect } from '@bifold/mongo'
import { call, emptyReadModels, startApp, stores, until, type Settings } from '@bifold/test'
import { makePointReads } from './point-reads.ts'
import { makeReadModel } from './read-model.ts'

const count = 1500 // a page of 1,000 is not the last
const switches = 20 // each meets some of the readers
const id = (n: number) => `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`
const ids = Array.from({ length: 400 }, (_, n) => id(n * 3))

/** Reads over and over, in each of these ways, while the collection is replaced; tells what was not as expected. */
async function switching (t: Test, { MONGO_URL }: Settings, kinds: Readonly<Record<string, readonly [read: () => Promise<number>, expected: number]>>) {
  const client = await MongoClient.connect(MONGO_URL)
  t.teardown(async () => await client.close())
  const db = client.db()
  const end = new AbortController()
  const faults: string[] = []
  const readers = Object.entries(kinds).map(([kind, [read, expected]]) => {
    const reader = { reads: 0, done: Promise.resolve() }
    reader.done = (async () => {
      for (; !end.signal.aborted; reader.reads++) {
        const found = await read().catch((error: Error) => error.message)
        if (found !== expected) faults.push(`${kind}: ${found}`)
        await setTimeout(0) // the others have their turn too
      }
    })()
    return reader
  })
  for (let round = 0; round < switches; round++) {
    const next = `books.build-${round}`
    await db.collection('books').aggregate([{ $out: next }]).toArray()
    await db.renameCollection(next, 'books', { dropTarget: true })
    const before = readers.map(({ reads }) => reads)
    await until(async () => readers.every(({ reads }, index) => reads > before[index]!), 'each reader to have read')
  }
  end.abort()
  await Promise.all(readers.map(async ({ done }) => await done))
  t.same(faults.slice(0, 5), [], `${faults.length} faults of ${readers.reduce((all, { reads }) => all + reads, 0)} reads`)
}

async function library (t: Test): Promise<Settings> {
  const settings = await stores(t)
  await emptyReadModels(settings)
  const client = await MongoClient.connect(settings.MONGO_URL)
  await client.db().collection('books').insertMany(Array.from({ length: count }, (_, n) => ({ _id: id(n), version: 1, title: `Book ${n}`, authors: ['Jane Austen'], description: 'x'.repeat(500) })) as never)
  await client.close()
  return settings
}

t.test('lists, many books at once, and one book, over gRPC and HTTP', async t => {
  const settings = await library(t)
  const { app, url } = await startApp(t, 'query', settings)
  const rpc = new booksV1.BookQueryServiceClient(`127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`, credentials.createInsecure())
  t.teardown(() => rpc.close())
  const get = async (path: string) => {
    const response = await fetch(`${url}${path}`)
    const text = await response.text()
    if (response.status !== 200) throw new Error(text)
    return JSON.parse(text)
  }
  const list = booksV1.ListBooksRequest.fromPartial({ pageSize: 1000 })
  await switching(t, settings, {
    'a list': [async () => (await call<typeof list, booksV1.ListBooksResponse>(rpc.listBooks.bind(rpc), list)).books.length, 1000],
    'a list over HTTP': [async () => (await get('/books?pageSize=1000')).books.length, 1000],
    'many books': [async () => (await call<{ ids: string[] }, booksV1.BatchGetBooksResponse>(rpc.batchGetBooks.bind(rpc), { ids })).books.length, ids.length],
    'many books over HTTP': [async () => (await get(`/books:batchGet?${ids.map(id => `ids=${id}`).join('&')}`)).books.length, ids.length],
    'one book': [async () => (await call<{ id: string }, booksV1.Book>(rpc.getBook.bind(rpc), { id: id(7) })).version, 1],
    'one book over HTTP': [async () => (await get(`/books/${id(7)}`)).version, 1],
    'a book that does not exist': [async () => (await fetch(`${url}/books/${id(count)}`)).status, 404]
  })
})

t.test('reads by ids, which are too quick to be met by many switches beside all else', async t => {
  const settings = await library(t)
  const client = connect(settings.MONGO_URL)
  const points = Array.from({ length: 8 }, () => makePointReads(makeReadModel(client.db(), 'books'), {}))
  t.teardown(async () => {
    for (const { close } of points) close()
    await client.close()
  })
  const reads = points.map(({ documents }, index) => [`reader ${index}`, [async () => (await documents(ids, { deadline: Date.now() + 60_000, tokens: [], connection: () => undefined, gone: () => false, onEnd () {} })).documents.length, ids.length]] as const)
  await switching(t, settings, Object.fromEntries(reads))
})
