/** Streams of those who watch: over Server-Sent Events, from clients that do not read, more than are taken, and when the service stops. */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import http2, { type IncomingHttpHeaders } from 'node:http2'
import { setTimeout } from 'node:timers/promises'
import { execa } from 'execa'
import { credentials, status, type StatusObject } from '@grpc/grpc-js'
import { MongoClient } from 'mongodb'
import { booksV1 } from '@bifold/proto'
import { emptyReadModels, startApp, stores, until, type Settings } from '@bifold/test'
import { frame, listBooks } from '@bifold/test/raw'

const id = (n: number) => `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`
const book = (n: number, more: object = {}) => ({ _id: id(n), version: 1, title: `Book ${n}`, authors: ['Jane Austen'], ...more })

async function setting (t: Test, books: object[]) {
  const settings = await stores(t)
  await emptyReadModels(settings)
  const client = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => await client.close())
  await client.db().collection('books').insertMany(books as never)
  return { settings, collection: client.db().collection<{ _id: string }>('books') }
}

async function service (t: Test, settings: Settings) {
  const { app, url } = await startApp(t, 'query', settings)
  const rpc = new booksV1.BookQueryServiceClient(`127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 })
  t.teardown(() => rpc.close())
  const watchers = async () => Number(/^bifold_query_watchers (.+)$/m.exec(await (await fetch(`${url}/metrics`)).text())![1])
  return { app, url, rpc, watchers }
}

interface SseEvent { event?: string, data?: any, id?: string }

/** Events as a browser reads them. */
async function events (t: Test, url: string, headers: Record<string, string> = {}) {
  const request = http.get(url, { headers })
  t.teardown(() => request.destroy())
  const [response] = await once(request, 'response') as [IncomingMessage]
  const one = { response, request, events: [] as SseEvent[], id: '', text: '', ended: once(response, 'close') }
  one.ended.catch(() => {})
  response.setEncoding('utf8').on('data', (text: string) => {
    one.text += text
    for (let end = one.text.indexOf('\n\n'); end !== -1; end = one.text.indexOf('\n\n')) {
      const fields = Object.fromEntries(one.text.slice(0, end).split('\n').filter(line => !line.startsWith(':')).map(line => line.split(/: (.*)/s).slice(0, 2)))
      one.text = one.text.slice(end + 2)
      if (fields.id !== undefined) one.id = fields.id
      if (fields.data !== undefined) one.events.push({ ...fields, data: JSON.parse(fields.data) })
    }
  }).on('error', () => {})
  return one
}

t.test('Server-Sent Events: a snapshot, changes, and on from the last id', async t => {
  const { settings, collection } = await setting(t, [book(1), book(2)])
  const { url } = await service(t, settings)
  const first = await events(t, `${url}/books:watch?author=Jane%20Austen`)
  t.match(first.response, { statusCode: 200, headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store', connection: 'close', 'x-request-id': String } })
  await until(async () => first.id !== '', 'the snapshot')
  t.match(first.events, [{ event: 'snapshot', data: { snapshotBegins: true, books: [{ title: 'Book 1' }, { title: 'Book 2' }] } }])
  await collection.insertOne(book(3))
  await until(async () => first.events.length === 2, 'the change')
  t.match(first.events[1], { event: 'changed', data: { books: [{ id: id(3) }] }, id: String })
  first.request.destroy()
  await collection.deleteOne({ _id: id(1) })
  await collection.replaceOne({ _id: id(2) }, { version: 2, title: 'Zwei', authors: ['Jane Austen'] } as never)
  const second = await events(t, `${url}/books:watch?author=Jane%20Austen`, { 'last-event-id': first.id })
  await until(async () => second.events.length === 2, 'what was missed')
  t.match(second.events, [{ event: 'changed', data: { books: [{ title: 'Zwei' }] }, id: undefined }, { event: 'removed', data: { removedIds: [id(1)] }, id: String }])
  t.match(await (await fetch(`${url}/books:watch?colour=red`)).json(), { code: 'INVALID_INPUT', errors: [{ path: '/colour' }] })
  const forged = await fetch(`${url}/books:watch`, { headers: { 'last-event-id': 'x' } })
  t.match({ status: forged.status, body: await forged.json() }, { status: 400, body: { code: 'INVALID_RESUME_TOKEN' } })
  t.equal((await fetch(`${url}/books:watch`, { method: 'HEAD' })).status, 404, 'it would watch, for an answer without a body')
  const { paths } = await (await fetch(`${url}/docs/json`)).json() as any
  t.match(paths['/books:watch'].get.responses['200'].content, { 'text/event-stream': {} })
})

// A browser's EventSource, which Node has too; behind a flag, so in a process of its own; it ends with the snapshot, or when the source has given up.
const browser = `
  const source = new EventSource(process.argv[1])
  const awake = setInterval(() => { if (source.readyState === EventSource.CLOSED) clearInterval(awake) }, 100) // while it waits, nothing else keeps the process
  source.addEventListener('error', () => console.log(source.readyState === EventSource.CLOSED ? 'closed' : 'cut off'))
  source.addEventListener('snapshot', ({ data }) => { console.log(data); source.close() })
`

t.test('a browser that cannot be served yet comes again by itself, others are told the status', async t => {
  const { settings, collection } = await setting(t, [book(1)])
  const { url } = await service(t, settings)
  await collection.drop()
  t.match(await (await fetch(`${url}/books:watch`)).json(), { status: 503, code: 'READ_MODEL_NOT_READY' })
  const refused = await fetch(`${url}/books:watch`, { headers: { accept: 'text/event-stream' } })
  t.match({ status: refused.status, type: refused.headers.get('content-type'), text: await refused.text() }, { status: 200, type: 'text/event-stream', text: 'retry: 5000\n\n: READ_MODEL_NOT_READY\n\n' })
  const source = execa('node', ['--experimental-eventsource', '--eval', browser, `${url}/books:watch`])
  t.teardown(() => source.kill('SIGKILL'))
  let told = ''
  source.stdout.on('data', text => { told += text })
  await until(async () => told !== '', 'the first refusal')
  await collection.insertOne(book(1))
  await source
  t.match(told, /^(cut off\n)+\{.*"Book 1"/)
  t.equal((await fetch(`${url}/books:watch?colour=red`, { headers: { accept: 'text/event-stream' } })).status, 400, 'what stays wrong is final')
})

t.test('when the service stops, streams are ended, and go on at another', async t => {
  const { settings, collection } = await setting(t, [book(1)])
  const [leaving, staying] = [await service(t, settings), await service(t, settings)]
  const stream = leaving.rpc.watchBooks(booksV1.WatchBooksRequest.fromPartial({}))
  let token = ''
  stream.on('data', ({ resumeToken }) => { token = resumeToken || token })
  const sse = await events(t, `${leaving.url}/books:watch`)
  await until(async () => token !== '' && sse.id !== '', 'the snapshots')
  const untold = fetch(`${leaving.url}/books:watch`, { headers: { 'last-event-id': sse.id } }) // nothing was missed
  await until(async () => await leaving.watchers() === 3, 'the one who is told nothing')
  const ended = once(stream, 'status') as Promise<[StatusObject]>
  const begun = Date.now()
  await leaving.app.close()
  t.ok(Date.now() - begun < 4000, `${Date.now() - begun} ms`)
  t.equal((await ended)[0].code, status.OK)
  await sse.ended
  t.equal((await untold).headers.get('content-type'), 'text/event-stream', 'a browser comes back only to that')
  await collection.insertOne(book(2))
  const next = staying.rpc.watchBooks(booksV1.WatchBooksRequest.fromPartial({ resumeToken: token }))
  t.teardown(() => next.cancel())
  next.on('error', () => {})
  const [message] = await once(next, 'data')
  t.match(message, { snapshotBegins: false, books: [{ id: id(2) }] })
  const again = await events(t, `${staying.url}/books:watch`, { 'last-event-id': sse.id })
  await until(async () => again.events.length === 1, 'what was missed')
  t.match(again.events, [{ event: 'changed', data: { books: [{ id: id(2) }] } }])
})

t.test('when the service stops, a stream of which something waits is ended when that is taken, whatever happens meanwhile', async t => {
  const { settings, collection } = await setting(t, [book(1)])
  const { app } = await service(t, settings)
  const session = http2.connect(`http://127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`)
  t.teardown(() => session.destroy())
  const stream = session.request({ ...listBooks, ':path': '/books.v1.BookQueryService/WatchBooks' })
  const ended = once(stream, 'trailers') as Promise<[IncomingHttpHeaders]>
  stream.end(frame(Buffer.alloc(0)))
  await once(stream, 'response') // and reads no more than HTTP/2 lets through unasked
  for (let n = 2; n < 10; n++) {
    await collection.insertOne(book(n, { description: 'x'.repeat(50_000) })) // 400 KB: less than may wait
    await setTimeout(100) // longer than until a change is told
  }
  const closing = app.close()
  for (const n of [10, 11]) {
    await collection.insertOne(book(n))
    await setTimeout(100)
  }
  stream.resume()
  t.match((await ended)[0], { 'grpc-status': '0' })
  await closing
})

t.test('who does not read is ended and told, the others go on; its memory is given back', async t => {
  const { settings, collection } = await setting(t, [book(1)])
  const { rpc, url, watchers } = await service(t, settings)
  const slow = rpc.watchBooks(booksV1.WatchBooksRequest.fromPartial({}))
  let token = ''
  slow.on('data', ({ resumeToken }) => { token = resumeToken || token })
  const sse = await events(t, `${url}/books:watch`)
  const quick = rpc.watchBooks(booksV1.WatchBooksRequest.fromPartial({}))
  t.teardown(() => quick.cancel())
  quick.on('error', () => {})
  let told = 0
  quick.on('data', ({ books }) => { told += books.length })
  await until(async () => token !== '' && sse.id !== '' && told === 1, 'the snapshots')
  slow.pause()
  sse.response.pause()
  const error = once(slow, 'error').then(([error]) => error, error => error)
  const description = 'x'.repeat(50_000)
  let [n, expected] = [0, told]
  // As much as it takes: the kernel keeps some megabytes for each. Never more at once than the quick one has room for: it reads in this very process.
  await until(async () => {
    await Promise.all(Array.from({ length: 5 }, async (_, at) => await collection.replaceOne({ _id: id(at) }, { version: ++n, title: 'Large', authors: ['Jane Austen'], description } as never, { upsert: true })))
    expected += 5
    await until(async () => told >= expected, 'the quick one to be told')
    return await watchers() === 1
  }, 'the slow ones to be ended')
  slow.resume()
  t.match(await error, { code: status.RESOURCE_EXHAUSTED, details: /go on with the last resume token/ })
  sse.response.resume()
  await sse.ended
  t.match(await (await fetch(`${url}/metrics`)).text(), /^# TYPE bifold_query_watchers_too_slow_total counter\nbifold_query_watchers_too_slow_total 2$/m)
  const before = told
  await collection.insertOne(book(100))
  await until(async () => told > before, 'the quick one to go on')
  const again = rpc.watchBooks(booksV1.WatchBooksRequest.fromPartial({ resumeToken: token }))
  t.teardown(() => again.cancel())
  again.on('error', () => {})
  t.match((await once(again, 'data'))[0], { snapshotBegins: false })
})

t.test('snapshots that nobody takes do not hold up those of others', async t => {
  const description = 'x'.repeat(50_000)
  const { settings } = await setting(t, Array.from({ length: 300 }, (_, n) => book(n, { description }))) // 15 MB: more than the kernel keeps for a client
  const { rpc, url, watchers } = await service(t, settings)
  const stalled = await Promise.all(Array.from({ length: 10 }, async () => await events(t, `${url}/books:watch`)))
  for (const { response } of stalled) response.pause()
  t.equal(await watchers(), 10)
  const quick = rpc.watchBooks(booksV1.WatchBooksRequest.fromPartial({}))
  t.teardown(() => quick.cancel())
  quick.on('error', () => {})
  let told = 0
  quick.on('data', ({ books }) => { told += books.length })
  await until(async () => told === 300, 'its snapshot')
  t.equal(await watchers(), 11, 'before the others are ended')
})

t.test('who takes its snapshot while more changes than are kept for it is told them as it takes them', async t => {
  const description = 'x'.repeat(50_000)
  const { settings, collection } = await setting(t, Array.from({ length: 300 }, (_, n) => book(n, { description }))) // 15 MB: more than the kernel keeps for a client
  const { rpc } = await service(t, settings)
  const stream = rpc.watchBooks(booksV1.WatchBooksRequest.fromPartial({}))
  t.teardown(() => stream.cancel())
  const has = new Map<string, number>()
  let [snapshots, ended] = [0, undefined as Error | undefined]
  stream.on('error', error => { ended = error })
  stream.on('data', ({ snapshotBegins, books }: booksV1.WatchBooksResponse) => {
    if (snapshotBegins) {
      snapshots++
      stream.pause() // once it has begun
    }
    for (const { id, version } of books) has.set(id, version)
  })
  await until(async () => snapshots === 1, 'the snapshot to begin')
  for (let n = 0; n < 60; n++) await collection.replaceOne({ _id: id(n) }, { version: 2, title: 'Changed', authors: ['Jane Austen'], description } as never) // 3 MB: more than may wait for a client
  stream.resume()
  await until(async () => ended !== undefined || (has.size === 300 && Array.from({ length: 60 }, (_, n) => has.get(id(n))).every(version => version === 2)), 'all of it')
  t.equal(ended, undefined)
  t.equal(snapshots, 1)
})

t.test('who reads is not too slow for what comes in one go', async t => {
  const { settings, collection } = await setting(t, [book(1)])
  const { rpc } = await service(t, settings)
  const stream = rpc.watchBooks(booksV1.WatchBooksRequest.fromPartial({}))
  t.teardown(() => stream.cancel())
  let [told, ended] = [0, undefined as Error | undefined]
  stream.on('error', error => { ended = error })
  stream.on('data', ({ books }) => { told += books.length })
  await until(async () => told === 1, 'the snapshot')
  const description = 'x'.repeat(3000)
  await collection.insertMany(Array.from({ length: 1000 }, (_, n) => book(n + 2, { description })) as never) // 3 MB, which MongoDB tells at once
  await until(async () => ended !== undefined || told === 1001, 'all of it')
  t.equal(ended, undefined)
})

t.test('who says nothing is told from where to go on, though nothing happens', async t => {
  const { settings, collection } = await setting(t, [book(1)])
  const { rpc } = await service(t, settings)
  const stream = rpc.watchBooks(booksV1.WatchBooksRequest.fromPartial({ language: 'none' }))
  t.teardown(() => stream.cancel())
  stream.on('error', () => {})
  const tokens: string[] = []
  stream.on('data', ({ resumeToken, books, removedIds }) => {
    t.same([books, removedIds], [[], []])
    if (resumeToken !== '') tokens.push(resumeToken)
  })
  await until(async () => tokens.length === 1, 'the snapshot')
  await collection.insertOne(book(2)) // not of its filter
  await until(async () => tokens.length > 1, 'a token')
  t.not(tokens.at(-1), tokens[0])
})

t.test('as many as a process takes, and no more; those that leave make room', async t => {
  const { settings } = await setting(t, [book(1)])
  const { rpc, url, watchers } = await service(t, settings)
  const open = () => {
    const stream = rpc.watchBooks(booksV1.WatchBooksRequest.fromPartial({}))
    stream.on('error', () => {}).resume()
    return stream
  }
  const clients = Array.from({ length: 3 }, () => new booksV1.BookQueryServiceClient(rpc.getChannel().getTarget().replace(/^dns:/, ''), credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 }))
  t.teardown(() => { for (const client of clients) client.close() })
  const streams = clients.flatMap(client => Array.from({ length: 667 }, () => client.watchBooks(booksV1.WatchBooksRequest.fromPartial({})).on('error', () => {}).resume())).slice(0, 2000)
  await until(async () => await watchers() === 2000, 'all to watch')
  const more = open()
  t.match(await new Promise(resolve => more.on('status', resolve)), { code: status.RESOURCE_EXHAUSTED })
  t.match(await (await fetch(`${url}/books:watch`)).json(), { status: 429, code: 'TOO_MANY_WATCHERS' })
  t.equal(await (await fetch(`${url}/books:watch`, { headers: { accept: 'text/event-stream' } })).text(), 'retry: 5000\n\n: TOO_MANY_WATCHERS\n\n', 'a browser comes again by itself')
  for (const stream of streams.slice(0, 100)) stream.cancel()
  await until(async () => await watchers() <= 1900, 'room')
  const another = open()
  t.teardown(() => another.cancel())
  await once(another, 'data')
  for (const stream of streams) stream.cancel()
  await setTimeout(100)
})
