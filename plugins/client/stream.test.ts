/** A watch goes on by itself, while the services that it may ask are stopped and started one after the other. */
import t from 'tap'
import getPort from 'get-port'
import { Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js'
import { MongoClient } from 'mongodb'
import { boundStreams } from '@bifold/grpc'
import { booksV1 } from '@bifold/proto'
import { emptyReadModels, startApp, stores, until } from '@bifold/test'
import { createClient } from './index.ts'

const id = (n: number) => `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`

/** The first of them; then the loop is left. */
async function taken<T> (all: AsyncIterable<T>, count: number): Promise<T[]> {
  const some: T[] = []
  for await (const one of all) {
    if (some.push(one) === count) break
  }
  return some
}

t.test('through restarts each change comes once, and the loop ends when it is left or told to', async t => {
  const settings = await stores(t)
  await emptyReadModels(settings)
  const mongo = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => await mongo.close())
  const collection = mongo.db().collection<{ _id: string }>('books')
  const ports = [await getPort(), await getPort()]
  const start = async (port: number) => (await startApp(t, 'query', { ...settings, QUERY_GRPC_PORT: port })).app
  const apps = [await start(ports[0]!), await start(ports[1]!)]
  const books = createClient(booksV1.BookQueryServiceDefinition, `ipv4:${ports.map(port => `127.0.0.1:${port}`).join(',')}`)
  t.teardown(() => books.close())

  const leaving = new AbortController()
  const told: string[] = []
  let snapshots = 0
  const watching = (async () => {
    for await (const { snapshotBegins, books: changed } of books.watchBooks({ author: 'Jane Austen' }, { signal: leaving.signal })) {
      if (snapshotBegins) snapshots++
      told.push(...changed.map(({ title }) => title))
    }
  })()
  watching.catch(() => {})
  await until(async () => snapshots === 1, 'the snapshot')
  const expected: string[] = []
  for (let n = 0; n < 6; n++) {
    await apps[n % 2]!.close()
    const title = `Book ${n}`
    await collection.insertOne({ _id: id(n), version: 1, title, authors: ['Jane Austen'] } as never)
    expected.push(title)
    await until(async () => told.includes(title), title)
    apps[n % 2] = await start(ports[n % 2]!)
  }
  t.same(told, expected)
  t.equal(snapshots, 1)
  leaving.abort(new Error('enough'))
  await t.rejects(watching, { message: 'enough' })

  const [first] = await taken(books.watchBooks({}), 1)
  t.equal(first!.snapshotBegins, true)
  await t.rejects(taken(books.watchBooks({ resumeToken: 'x' }), 1), { code: 'INVALID_RESUME_TOKEN', fields: [{ field: 'resume_token' }] })
})

t.test('a stream that the service has cancelled, since it was silent for too long, goes on', async t => {
  const asked: string[] = []
  const server = new Server({ interceptors: [boundStreams({ streamsMax: 10, silenceMs: 300 })] }) // in place of 30 s
  server.addService(booksV1.BookQueryServiceService, {
    watchBooks (call: ServerWritableStream<booksV1.WatchBooksRequest, booksV1.WatchBooksResponse>) {
      asked.push(call.request.resumeToken)
      call.write(booksV1.WatchBooksResponse.fromPartial({ resumeToken: `after ${asked.length}` }))
    }
  } as never)
  const port = await new Promise<number>((resolve, reject) => server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => error === null ? resolve(port) : reject(error)))
  t.teardown(() => server.forceShutdown())
  const books = createClient(booksV1.BookQueryServiceDefinition, `127.0.0.1:${port}`)
  t.teardown(() => books.close())
  t.same((await taken(books.watchBooks({}), 3)).map(({ resumeToken }) => resumeToken), ['after 1', 'after 2', 'after 3'])
  t.same(asked, ['', 'after 1', 'after 2'])
})
