/** Hostile input: whatever comes in, nothing crashes, nothing is answered with a 500, memory stays bounded, and nothing is stored. */
import http2 from 'node:http2'
import net from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { existsSync } from 'node:fs'
import { rename } from 'node:fs/promises'
import { status } from '@grpc/grpc-js'
import { execa } from 'execa'
import t, { type Test } from 'tap'
import { sql } from 'kysely'
import { Agent, request } from 'undici'
import { call, kafkaFor, pipeline, until, type Pipeline } from './pipeline.ts'

const emma = { title: 'Emma', authors: ['Jane Austen'] }
const schemathesis = ['schemathesis==4.32.5', 'hypothesis==6.170.15']
const examples = 60 // requests of a kind for each operation: some 10 s an app

const counts = async ({ db, mongo }: Pipeline) => ({
  events: (await sql<{ n: number }>`select count(*)::int as n from events`.execute(db)).rows[0]!.n,
  books: (await sql<{ n: number }>`select count(*)::int as n from books`.execute(db)).rows[0]!.n,
  documents: await mongo.collection('books').countDocuments()
})

/** All apps are ready, and a book goes the whole way. */
async function works (t: Test, line: Pipeline) {
  const { status: code, body: { id } } = await line.post('/books', emma)
  t.equal(code, 201)
  await until(async () => (await line.get(`/books/${id}`)).status === 200, 'the book to be read')
  for (const [name, { url }] of Object.entries(line.apps)) t.equal((await fetch(`${url}/health/ready`)).status, 200, name)
}

/** What a server answers to bytes, until it closes the connection. */
async function raw (url: string, bytes: string | Buffer, { afterMs = 40_000 } = {}): Promise<string> {
  const { hostname, port } = new URL(url)
  const socket = net.connect(Number(port), hostname)
  let answer = ''
  socket.on('data', chunk => { answer += chunk.toString('latin1') }).on('error', () => {})
  socket.write(bytes)
  await Promise.race([new Promise(resolve => socket.once('close', resolve)), setTimeout(afterMs)])
  socket.destroy()
  return answer
}

/** The fuzzer, installed once for a clone. */
async function installFuzzer (): Promise<string> {
  const folder = `${import.meta.dirname}/../node_modules/.schemathesis`
  if (existsSync(folder)) return folder
  const into = `${folder}-${process.pid}`
  await execa('python3', ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--target', into, ...schemathesis], { env: { PIP_ROOT_USER_ACTION: 'ignore' } })
  await rename(into, folder)
  return folder
}

t.test('the OpenAPI documents, fuzzed', async t => {
  const PYTHONPATH = await installFuzzer()
  const line = await pipeline(t)
  await works(t, line)
  for (const [name, url] of [['gateway', line.gateway], ['query', line.query]]) {
    const { all, exitCode } = await execa('python3', ['-m', 'schemathesis.cli', 'run', `${url}/docs/json`, '--seed', '7', '--max-examples', String(examples), '--no-color', '--continue-on-failure',
      '--checks', 'not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance'], { env: { PYTHONPATH }, cwd: t.testdir(), all: true, reject: false, timeout: 120_000 })
    t.equal(exitCode, 0, `${name}: ${all.slice(-6000)}`)
    t.match(all, /\d{3,} generated/, `${name} was asked hundreds of times`)
  }
  await works(t, line)
})

t.test('commands that cannot be', async t => {
  const line = await pipeline(t)
  await works(t, line)
  const before = await counts(line)
  const post = async (body: string, headers = {}) => await fetch(`${line.gateway}/books`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body })
  const title = (text: string) => `{"title":${text},"authors":["Jane Austen"]}`
  const bodies = {
    'a NUL character': title('"\\u0000"'),
    'half a surrogate pair': title('"\\ud800"'),
    'a prototype': '{"title":"Emma","authors":["Jane Austen"],"__proto__":{"isbn":"x"}}',
    'a constructor': '{"title":"Emma","authors":["Jane Austen"],"constructor":{"prototype":{"isbn":"x"}}}',
    'a number beyond all': '{"title":"Emma","authors":["Jane Austen"],"price":1e400}',
    'an integer that is none': '{"title":"Emma","authors":["Jane Austen"],"price":9007199254740993}',
    'a thousand levels': '['.repeat(1000) + ']'.repeat(1000),
    'a list': '[]',
    'a number': '1',
    'half of it': '{"title":"Em',
    'too much of it': title(JSON.stringify('x'.repeat(200_000)))
  }
  for (const [what, body] of Object.entries(bodies)) {
    const response = await post(body)
    t.ok([400, 413].includes(response.status), `${what}: ${response.status}`)
    t.match(await response.json(), { status: response.status, code: /^(INVALID_|NESTED_TOO_DEEP|BODY_TOO_LARGE|BAD_REQUEST)/ }, what)
  }
  const notUtf8 = await fetch(`${line.gateway}/books`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: Buffer.concat([Buffer.from('{"title":"'), Buffer.from([0xff, 0xfe]), Buffer.from('","authors":["a"],"colour":1}')]) })
  t.equal(notUtf8.status, 400)
  for (const headers of [{ 'content-type': 'text/xml' }, { 'idempotency-key': 'x'.repeat(5000) }, { 'if-match': 'yes' }] as Record<string, string>[]) {
    t.ok([400, 415].includes((await post(title('"Emma"'), headers)).status), JSON.stringify(headers).slice(0, 60))
  }
  t.same(await counts(line), before, 'nothing was stored')
  await works(t, line)
})

t.test('connections that are no good', async t => {
  const line = await pipeline(t)
  await works(t, line)
  const before = await counts(line)
  const head = 'POST /books HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
  const slow = raw(line.gateway, `${head}Content-Length: 60\r\n\r\n{"title":"Emma",`)
  const slowHeaders = raw(line.gateway, 'POST /books HTTP/1.1\r\nHost: localhost\r\n')
  const silent = Array.from({ length: 500 }, async () => await raw(line.gateway, `${head}Content-Length: 60\r\n\r\n{`))
  await setTimeout(500)
  await works(t, line)
  for (const url of [line.gateway, line.query]) {
    t.match(await raw(url, 'HELLO\r\n\r\n'), /^HTTP\/1.1 400 [^]*application\/problem\+json[^]*BAD_REQUEST/)
    t.match(await raw(url, `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`), /^HTTP\/1.1 431 [^]*HEADERS_TOO_LARGE/)
    t.match(await raw(url, `${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello`), /^HTTP\/1.1 400 /, 'two lengths')
  }
  t.match(await slowHeaders, /^HTTP\/1.1 408 [^]*REQUEST_TIMEOUT/, 'headers that never end')
  t.match(await slow, /^HTTP\/1.1 408 [^]*REQUEST_TIMEOUT/, 'a body that never ends')
  t.ok((await Promise.all(silent)).every(answer => answer.startsWith('HTTP/1.1 408')), 'and 500 of them')
  t.match(await counts(line), { events: before.events + 1 }, 'nothing was stored but our own')
  await works(t, line)
})

t.test('many reads over one connection leave nothing behind on it', async t => {
  const line = await pipeline(t)
  const { body: { id } } = await line.post('/books', emma)
  const warnings: string[] = []
  const warned = ({ name }: Error) => warnings.push(name)
  process.on('warning', warned)
  const agent = new Agent({ connections: 1 })
  for (let read = 0; read < 30; read++) for (const path of [`/books/${id}`, '/books']) await (await request(`${line.query}${path}`, { dispatcher: agent })).body.dump()
  await agent.close()
  await setTimeout(100)
  process.off('warning', warned)
  t.same(warnings, [])
})

t.test('gRPC: garbage, too much, and thousands of idle streams', async t => {
  const line = await pipeline(t)
  await works(t, line)
  const url = `http://${line.grpc}`
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
  const frames = [Buffer.alloc(2000, 0xff), Buffer.from(preface), Buffer.concat([Buffer.from(preface), Buffer.alloc(3000, 0x41)]), Buffer.concat([Buffer.from(preface), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x01, 0, 0, 0, 3])])]
  for (const bytes of frames) await raw(url, bytes, { afterMs: 300 })
  await t.rejects(call(line.books.batchGetBooks.bind(line.books), { ids: ['x'.repeat(2 * 1024 * 1024)] }), { code: status.RESOURCE_EXHAUSTED })
  await t.rejects(call(line.books.getBook.bind(line.books), { id: '\u0000' }), { code: status.INVALID_ARGUMENT })
  t.notOk(/^0$/.test(await unary(url, Buffer.from([0, 0, 0, 0, 3, 0xff, 0xff, 0xff]))), 'a message that is no protobuf')
  t.notOk(/^0$/.test(await unary(url, Buffer.from([1, 0, 0, 0, 3, 1, 2, 3]))), 'a message that says it is compressed, and is not')

  const rss = async () => await line.metric('query', 'process_resident_memory_bytes')
  const rssBefore = await rss()
  const sessions = Array.from({ length: 5 }, () => http2.connect(url).on('error', () => {}))
  for (const session of sessions) {
    for (let stream = 0; stream < 1000; stream++) session.request({ ':method': 'POST', ':path': '/books.v1.BookQueryService/GetBook', 'content-type': 'application/grpc', te: 'trailers' }).on('error', () => {})
  }
  await setTimeout(2000)
  await works(t, line)
  const ratio = await rss() / rssBefore
  t.comment(`memory of the query app's process with 5,000 idle streams: ${ratio.toFixed(2)} of before`)
  t.ok(ratio < 2, `${ratio}`)
  for (const session of sessions) session.destroy()
  await works(t, line)
})

/** The grpc-status of a call with these bytes. */
async function unary (url: string, bytes: Buffer): Promise<string> {
  const session = http2.connect(url)
  const stream = session.request({ ':method': 'POST', ':path': '/books.v1.BookQueryService/GetBook', 'content-type': 'application/grpc', te: 'trailers' })
  const ended = new Promise<string>((resolve, reject) => {
    const tell = (headers: http2.IncomingHttpHeaders) => { if (headers['grpc-status'] !== undefined) resolve(String(headers['grpc-status'])) }
    stream.on('response', tell).on('trailers', tell).on('error', reject).on('close', () => resolve('closed')).resume()
  })
  stream.end(bytes)
  return await ended.finally(() => session.destroy())
}

t.test('junk on the topic', async t => {
  const line = await pipeline(t)
  const { body: { id } } = await line.post('/books', emma)
  await until(async () => (await line.get(`/books/${id}`)).status === 200)
  const before = await counts(line)
  const producer = kafkaFor(line.settings).producer()
  await producer.connect()
  t.teardown(async () => await producer.disconnect())
  const headers = { ce_type: 'BookRevised', ce_source: '/books', ce_version: '2', ce_time: new Date().toISOString(), ce_sequence: 'zzzz', ce_id: `${id}/2` }
  const value = JSON.stringify({ task: 'update', data: { id, version: 2, title: 'Forged', authors: ['Nobody'] } })
  const junk = [
    { key: 'x'.repeat(100_000), value: 'x' },
    { key: id, value, headers }, // its sequence would have all later ones passed over
    { key: id, value, headers: { ...headers, ce_version: '1e9' } },
    { key: id, value: '{"task":"insert","data":null}', headers },
    { key: 'another', value, headers },
    { key: id, value: Buffer.alloc(500_000, 0xff), headers }
  ]
  await producer.send({ topic: line.settings.EVENTS_TOPIC, messages: [0, 1, 2, 3, 4, 5].flatMap(partition => junk.map(message => ({ ...message, partition }))) })
  await until(async () => await line.mongo.collection('deadLetters').countDocuments() === 36, 'the dead letters')
  t.same(await counts(line), before)
  t.match((await line.get(`/books/${id}`)).body, { version: 1, title: 'Emma' })
  await line.send('PATCH', `/books/${id}`, { price: 1 })
  await until(async () => (await line.get(`/books/${id}`)).body.version === 2, 'what comes after')
  await works(t, line)
})
