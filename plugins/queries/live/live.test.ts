/** Watching, against the real MongoDB: what is told adds up to what there is, through disconnects, rebuilds and other services. */
import t, { type Test } from 'tap'
import { setTimeout } from 'node:timers/promises'
import { credentials, status, type ClientReadableStream, type ServiceError } from '@grpc/grpc-js'
import { MongoClient, type Collection } from 'mongodb'
import { booksV1 } from '@bifold/proto'
import { emptyReadModels, startApp, stores, until, type Settings } from '@bifold/test'

const id = (n: number) => `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`
type Book = { _id: string, version: number, title: string, authors: string[], language?: string, publishedYear?: number }
const book = (n: number, more: Partial<Book> = {}): Book => ({ _id: id(n), version: 1, title: `Book ${n}`, authors: ['Jane Austen'], ...more })

async function setting (t: Test, books: Book[] = []) {
  const settings = await stores(t)
  await emptyReadModels(settings)
  const client = await MongoClient.connect(settings.MONGO_URL, { writeConcern: { w: 'majority' } })
  t.teardown(async () => await client.close())
  const collection = client.db().collection<Book>('books')
  if (books.length > 0) await collection.insertMany(books)
  return { settings, db: client.db(), collection }
}

async function service (t: Test, settings: Settings) {
  const { app, url } = await startApp(t, 'query', settings)
  const rpc = new booksV1.BookQueryServiceClient(`127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 })
  t.teardown(() => rpc.close())
  return { app, url, rpc }
}

/** What a watcher has been told, added up; and what was told twice or went back. */
function watching (t: Test, rpc: booksV1.BookQueryServiceClient, request: Partial<booksV1.WatchBooksRequest> = {}, has = new Map<string, booksV1.Book>()) {
  const stream: ClientReadableStream<booksV1.WatchBooksResponse> = rpc.watchBooks(booksV1.WatchBooksRequest.fromPartial(request))
  const one = { stream, has, faults: [] as string[], token: request.resumeToken ?? '', snapshots: 0, messages: 0, removed: [] as string[], ended: undefined as ServiceError | undefined }
  stream.on('data', ({ snapshotBegins, books, removedIds, resumeToken }: booksV1.WatchBooksResponse) => {
    one.messages++
    if (snapshotBegins) {
      one.snapshots++
      has.clear()
    }
    for (const book of books) {
      const before = has.get(book.id)
      if (before !== undefined && before.version >= book.version) one.faults.push(`${book.title}: ${book.version} after ${before.version}`)
      has.set(book.id, book)
    }
    for (const id of removedIds) has.delete(id)
    one.removed.push(...removedIds)
    if (resumeToken !== '') one.token = resumeToken
  })
  stream.on('error', (error: ServiceError) => { one.ended = error })
  t.teardown(() => stream.cancel())
  return one
}

const titles = ({ has }: { has: Map<string, booksV1.Book> }) => [...has.values()].map(({ title }) => title).sort()

/** Writes as a projector does, until it is ended: inserts, replaces or updates, and removes, each document in its order. */
function writing (collection: Collection<Book>, how: 'replace' | 'update' = 'replace') {
  const end = new AbortController()
  let writes = 0
  const lane = async (lane: number) => {
    const versions = new Map<number, number>()
    for (; !end.signal.aborted; writes++) {
      const n = Math.floor(Math.random() * 30) * lanes + lane
      const version = (versions.get(n) ?? 1) + 1
      versions.set(n, version)
      const language = ['eng', 'ger'][version % 2]!
      if (version % 7 === 0) await collection.deleteOne({ _id: id(n) })
      else if (how === 'update') await collection.updateOne({ _id: id(n) }, { $set: { version, title: `Book ${n}`, authors: ['Jane Austen'], language } }, { upsert: true })
      else await collection.replaceOne({ _id: id(n) }, { version, title: `Book ${n}`, authors: ['Jane Austen'], language }, { upsert: true })
    }
  }
  const done = Promise.all(Array.from({ length: lanes }, async (_, n) => await lane(n)))
  return { get writes () { return writes }, async end () { end.abort(); await done } }
}

const lanes = 10

/** Whether a watcher has exactly what there is. */
async function isEqual (collection: Collection<Book>, { has }: { has: Map<string, booksV1.Book> }, where: object = {}) {
  const there = (await collection.find(where).toArray()).map(({ _id, version }) => `${_id} ${version}`).sort()
  const told = [...has.values()].map(({ id, version }) => `${id} ${version}`).sort()
  return JSON.stringify(there) === JSON.stringify(told)
}

t.test('a snapshot, then each change: new, changed, not of the filter any more, and gone', async t => {
  const { settings, collection } = await setting(t, [book(1), book(2, { language: 'eng' }), book(3, { authors: ['Niemand'], language: 'eng' })])
  const { rpc } = await service(t, settings)
  const all = watching(t, rpc)
  const english = watching(t, rpc, { author: 'Jane Austen', language: 'eng' })
  await until(async () => all.token !== '' && english.token !== '', 'the snapshots')
  t.same([titles(all), titles(english)], [['Book 1', 'Book 2', 'Book 3'], ['Book 2']])
  t.same([all.snapshots, english.snapshots], [1, 1])
  await collection.insertOne(book(4, { language: 'eng' }))
  await until(async () => titles(all).length === 4 && titles(english).length === 2, 'the new one')
  await collection.replaceOne({ _id: id(2) }, { version: 2, title: 'Zwei', authors: ['Jane Austen'], language: 'ger' })
  await until(async () => titles(all).includes('Zwei') && titles(english).join() === 'Book 4', 'it to leave the filter')
  await collection.deleteOne({ _id: id(4) })
  await until(async () => titles(all).length === 3 && titles(english).length === 0, 'the removed one')
  await collection.insertOne(book(5, { language: 'ger' }))
  await collection.replaceOne({ _id: id(5) }, { version: 2, title: 'Fünf', authors: ['Jane Austen'], language: 'ger' })
  await until(async () => titles(all).includes('Fünf'), 'the other one')
  t.notOk(english.removed.includes(id(5)), 'what has never been of the filter is not told')
  t.same([...all.faults, ...english.faults], [])
})

t.test('joined under load, everybody has what there is: no gap, and nothing twice', async t => {
  const { settings, collection } = await setting(t, Array.from({ length: 300 }, (_, n) => book(n, { language: 'eng' })))
  const { rpc } = await service(t, settings)
  const writer = writing(collection)
  const watchers = []
  for (let n = 0; n < 30; n++) {
    watchers.push(watching(t, rpc, n % 2 === 0 ? {} : { language: 'eng' }))
    await setTimeout(50)
  }
  await writer.end()
  for (const [n, one] of watchers.entries()) {
    await until(async () => await isEqual(collection, one, n % 2 === 0 ? {} : { language: 'eng' }), `watcher ${n} to be equal`)
    t.same(one.faults, [], `watcher ${n}`)
    t.equal(one.snapshots, 1)
  }
  t.comment(`${writer.writes} writes`)
})

t.test('joined while documents are updated, of which MongoDB tells what they are by then, everybody has what there is', async t => {
  const { settings, collection } = await setting(t, Array.from({ length: 300 }, (_, n) => book(n, { language: 'eng' })))
  const { rpc } = await service(t, settings)
  for (let round = 0; round < 10; round++) {
    const writer = writing(collection, 'update')
    const watchers = []
    for (let n = 0; n < 10; n++) {
      watchers.push(watching(t, rpc, n % 2 === 0 ? {} : { language: 'eng' }))
      await setTimeout(10)
    }
    await writer.end() // soon: a document that is written once more is told again
    for (const [n, one] of watchers.entries()) {
      await until(async () => await isEqual(collection, one, n % 2 === 0 ? {} : { language: 'eng' }), `watcher ${n} to be equal`)
      one.stream.cancel()
    }
  }
})

t.test('a resume token goes on without gap or double, at another service, over and over', async t => {
  const { settings, collection } = await setting(t, Array.from({ length: 300 }, (_, n) => book(n)))
  const services = [await service(t, settings), await service(t, settings)]
  const writer = writing(collection)
  let one = watching(t, services[0]!.rpc)
  await until(async () => one.token !== '', 'the snapshot')
  for (let n = 1; n <= 20; n++) {
    one.stream.cancel()
    await setTimeout(n % 4 * 40)
    const { token, has } = one
    one = watching(t, services[n % 2]!.rpc, { resumeToken: token }, has)
    await until(async () => one.messages > 0, 'it to go on')
    t.equal(one.snapshots, 0)
    t.same(one.faults, [])
    if (n % 3 === 0) await setTimeout(100)
  }
  await writer.end()
  await until(async () => await isEqual(collection, one), 'it to be equal')
  t.same(one.faults, [])
})

t.test('a read model that is not there yet is called so, and may be asked for again', async t => {
  const { settings, collection } = await setting(t, [book(1)])
  const { rpc } = await service(t, settings)
  await collection.drop()
  const early = watching(t, rpc)
  await until(async () => early.ended !== undefined, 'the refusal')
  t.match(early.ended, { code: status.UNAVAILABLE })
  t.same(early.ended!.metadata.get('error-code'), ['READ_MODEL_NOT_READY'])
  await collection.insertOne(book(2))
  const later = watching(t, rpc)
  await until(async () => titles(later).includes('Book 2'), 'the snapshot')
})

t.test('a forged token, and one of another filter, are refused', async t => {
  const { settings } = await setting(t, [book(1)])
  const { rpc } = await service(t, settings)
  const one = watching(t, rpc)
  await until(async () => one.token !== '', 'the snapshot')
  const forged = [
    ['x', status.INVALID_ARGUMENT],
    [Buffer.from('[]').toString('base64url'), status.INVALID_ARGUMENT],
    [Buffer.from(JSON.stringify([JSON.parse(Buffer.from(one.token, 'base64url').toString())[0], `82${'0'.repeat(15)}1FF`])).toString('base64url'), status.INVALID_ARGUMENT]
  ] as const
  for (const [resumeToken, code] of forged) {
    const other = watching(t, rpc, { resumeToken })
    await until(async () => other.ended !== undefined, 'an answer')
    t.equal(other.ended!.code, code, other.ended!.details)
  }
  const other = watching(t, rpc, { language: 'eng', resumeToken: one.token })
  await until(async () => other.ended !== undefined, 'an answer')
  t.match(other.ended, { code: status.INVALID_ARGUMENT, details: /resume_token/ })
})
