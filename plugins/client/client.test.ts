/** The client against real query services: what it gives, how it fails, and what it does when one is away, hangs or is not ready. */
import t, { type Test } from 'tap'
import { InterceptingCall, status, type Interceptor } from '@grpc/grpc-js'
import getPort from 'get-port'
import { MongoClient } from 'mongodb'
import { booksV1 } from '@bifold/proto'
import { emptyReadModels, startApp, startProcess, stores, until, type Settings } from '@bifold/test'
import { BifoldError, createClient, type ClientOptions } from './index.ts'

const id = (n: number) => `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`
const emma = { _id: id(1), version: 1, title: 'Emma', authors: ['Jane Austen'] }

/** A client that tells how often it has tried, and with which tokens. */
function clientOf (t: Test, address: string, options: ClientOptions = {}) {
  const tokens: unknown[][] = []
  const count: Interceptor = (options, next) => new InterceptingCall(next(options), {
    start (metadata, listener, next) {
      tokens.push(metadata.get('consistency-token'))
      next(metadata, listener)
    }
  })
  const books = createClient(booksV1.BookQueryServiceDefinition, address, { ...options, channel: { interceptors: [count], ...options.channel } })
  t.teardown(() => books.close())
  return { books, tokens, get attempts () { return tokens.length } }
}

async function database (t: Test, { MONGO_URL }: Settings) {
  const client = await MongoClient.connect(MONGO_URL)
  t.teardown(async () => await client.close())
  return client.db()
}

async function service (t: Test, { ready = true } = {}) {
  const settings = { ...await stores(t), QUERY_GRPC_PORT: await getPort() }
  if (ready) await emptyReadModels(settings)
  const db = await database(t, settings)
  if (ready) await db.collection('books').insertOne(emma as never)
  const { app } = await startApp(t, 'query', settings, { ready })
  return { settings, db, app, address: `127.0.0.1:${settings.QUERY_GRPC_PORT}` }
}

/** What a call rejects with, and how long it took. */
async function failure (call: Promise<unknown>) {
  const begun = Date.now()
  const error = await call.then(() => undefined, (error: unknown) => error)
  return { error: error as BifoldError, tookMs: Date.now() - begun }
}

t.test('typed answers, and only the fields that matter in a request', async t => {
  const { books } = clientOf(t, (await service(t)).address)
  const book: booksV1.Book = await books.getBook({ id: id(1) })
  t.match(book, { id: id(1), title: 'Emma' })
  t.match(await books.batchGetBooks({ ids: [id(1), id(2)] }), { books: [{ id: id(1) }], missingIds: [id(2)] })
  t.match(await books.listBooks({ author: 'Jane Austen' }), { books: [{ id: id(1) }], nextPageToken: '' })
  // @ts-expect-error a field that the request does not have
  const misspelt = () => books.getBook({ isbn: '' })
  // @ts-expect-error an RPC that the service does not have
  t.equal(books.burnBook, undefined)
  t.type(misspelt, 'function')
})

t.test('errors have a code, the fields that were wrong, and are not tried again in vain', async t => {
  const client = clientOf(t, (await service(t)).address)
  const missing = await failure(client.books.getBook({ id: id(2) }))
  t.type(missing.error, BifoldError)
  t.match(missing.error, { code: 'BOOKS_NOT_FOUND', status: status.NOT_FOUND, message: `Book '${id(2)}' does not exist`, retryable: false, fields: [] })
  const wrong = await failure(client.books.listBooks({ pageSize: 1001, orderBy: 'colour' }))
  t.match(wrong.error, { code: 'INVALID_INPUT', status: status.INVALID_ARGUMENT, message: 'Wrong input in the request' })
  t.same(wrong.error.fields.map(({ field }) => field).sort(), ['order_by', 'page_size'])
  t.match(await failure(client.books.batchGetBooks({ ids: [id(1), 'x'] })), { error: { fields: [{ field: 'ids[1]', message: 'must be a valid uuid' }] } })
  t.equal(client.attempts, 3)
})

t.test('each token is sent once, by the reads after it, and by no others', async t => {
  const client = clientOf(t, (await service(t)).address)
  const read = async (books: typeof client.books) => await failure(books.getBook({ id: id(1) })) // what the service makes of such a token is not looked at here
  await read(client.books)
  await read(client.books.after('a', 'b').after('a', 'c'))
  await read(client.books)
  t.same(client.tokens[0], [])
  t.ok(client.tokens.slice(1, -1).length > 0)
  for (const sent of client.tokens.slice(1, -1)) t.same(sent, ['a', 'b', 'c'])
  t.same(client.tokens.at(-1), [])
})

t.test('a service that is away and comes back is waited for, as long as the deadline allows', async t => {
  const running = await service(t)
  const { books } = clientOf(t, running.address)
  await books.getBook({ id: id(1) })
  await running.app.close()
  const { error, tookMs } = await failure(books.getBook({ id: id(1) }, { deadlineMs: 400 }))
  t.match(error, { status: status.UNAVAILABLE, code: 'UNAVAILABLE', retryable: true })
  t.ok(tookMs < 500, `${tookMs} ms`)
  const waiting = books.getBook({ id: id(1) }, { deadlineMs: 20_000 })
  await startApp(t, 'query', running.settings)
  t.match(await waiting, { title: 'Emma' })
})

t.test('retries are bounded, by the deadline and in number, and end when the service is ready', async t => {
  const { db, address } = await service(t, { ready: false })
  const client = clientOf(t, address)
  const late = await failure(client.books.getBook({ id: id(1) }, { deadlineMs: 700 }))
  t.match(late.error, { code: 'READ_MODEL_NOT_READY', retryable: true, retryAfterMs: 100 })
  t.ok(late.tookMs < 800, `${late.tookMs} ms`)
  t.ok(client.attempts > 2, `${client.attempts} attempts`)
  const before = client.attempts
  const patient = await failure(client.books.getBook({ id: id(1) }, { deadlineMs: 60_000 }))
  t.match(patient.error, { code: 'READ_MODEL_NOT_READY' })
  t.equal(client.attempts - before, 10)
  const waiting = client.books.getBook({ id: id(1) }, { deadlineMs: 60_000 })
  await db.collection('books').insertOne(emma as never)
  t.match(await waiting, { title: 'Emma' })
})

t.test('a service that is not ready is not met by a flood: a hundred calls are tried again at most', async t => {
  const client = clientOf(t, (await service(t, { ready: false })).address)
  const failed = await Promise.all(Array.from({ length: 300 }, async () => await failure(client.books.getBook({ id: id(1) }, { deadlineMs: 60_000 }))))
  t.same([...new Set(failed.map(({ error }) => error.code))], ['READ_MODEL_NOT_READY'])
  t.ok(client.attempts >= 300 + 100 * 9 && client.attempts < 2000, `${client.attempts} attempts, of 3,000`)
  const one = await failure(client.books.getBook({ id: id(1) }, { deadlineMs: 1000 }))
  t.ok(one.tookMs > 300, 'and afterwards others are')
})

t.test('a signal ends a call at once, also between two attempts', async t => {
  const { books } = clientOf(t, (await service(t, { ready: false })).address)
  const leaving = new AbortController()
  const call = failure(books.getBook({ id: id(1) }, { deadlineMs: 20_000, signal: leaving.signal }))
  setTimeout(() => leaving.abort(new Error('enough')), 300)
  const { error, tookMs } = await call
  t.equal(error.message, 'enough')
  t.ok(tookMs < 500, `${tookMs} ms`)
  t.match(await failure(books.getBook({ id: id(1) }, { signal: leaving.signal })), { error: { message: 'enough' } })
})

t.test('a service that hangs is found out, and its calls are answered by another', async t => {
  const running = await service(t)
  const other = { ...running.settings, QUERY_GRPC_PORT: await getPort() }
  const process = await startProcess(t, 'query', other)
  await until(async () => (await fetch(`${process.url}/health/ready`)).ok, 'the other one')
  // Sooner than by default, so that nobody waits half a minute here.
  const { books } = clientOf(t, `ipv4:${running.address},127.0.0.1:${other.QUERY_GRPC_PORT}`, { channel: { 'grpc.keepalive_time_ms': 500, 'grpc.keepalive_timeout_ms': 500 } })
  for (let n = 0; n < 10; n++) await books.getBook({ id: id(1) }) // both are connected
  process.kill('SIGSTOP')
  const begun = Date.now()
  const answers = await Promise.all(Array.from({ length: 10 }, async () => await books.getBook({ id: id(1) }, { deadlineMs: 20_000 })))
  t.ok(answers.every(({ title }) => title === 'Emma'))
  t.ok(Date.now() - begun < 5000, `${Date.now() - begun} ms`)
  process.kill('SIGCONT')
})
