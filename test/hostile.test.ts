/** Hostile input: whatever comes in, nothing crashes, nothing is answered with a 500, and nothing is stored. How much of it is borne is in hostile-load.test.ts. */
import { once } from 'node:events'
import net from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { existsSync } from 'node:fs'
import { rename } from 'node:fs/promises'
import { status } from '@grpc/grpc-js'
import { execa } from 'execa'
import t, { type Test } from 'tap'
import { sql } from 'kysely'
import { Agent, request } from 'undici'
import { call, kafkaFor, pipeline, until, type Pipeline } from './pipeline.ts'
import { frame, raw, unary } from './raw.ts'

const emma = { title: 'Emma', authors: ['Jane Austen'] }
const schemathesis = ['schemathesis==4.32.5', 'hypothesis==6.170.15']
const examples = 60 // requests of a kind for each operation: some 10 s an app

const counts = async ({ db, mongo }: Pipeline) => ({
  events: (await sql<{ n: number }>`select count(*)::int as n from events`.execute(db)).rows[0]!.n,
  books: (await sql<{ n: number }>`select count(*)::int as n from books`.execute(db)).rows[0]!.n,
  documents: await mongo.collection('books').countDocuments()
})

const errorLevel = 50 // pino's

/** All apps are ready and have met no fault of their own, and a book goes the whole way. */
async function works (t: Test, line: Pipeline) {
  const { status: code, body: { id } } = await line.post('/books', emma)
  t.equal(code, 201)
  await until(async () => (await line.get(`/books/${id}`)).status === 200, 'the book to be read')
  for (const [name, { url, logs }] of Object.entries(line.apps)) {
    t.equal((await fetch(`${url}/health/ready`)).status, 200, name)
    t.same(logs.filter(({ level }) => Number(level) >= errorLevel), [], `${name} logged no error`)
  }
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
      '--exclude-path-regex', ':watch$', // an answer without an end is none for it: plugins/queries/live/streams.test.ts asks what is wrong there
      '--checks', 'not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance'], { env: { PYTHONPATH: `${PYTHONPATH}:${import.meta.dirname}/fuzzer`, SCHEMATHESIS_HOOKS: 'ndjson', PYTHONDONTWRITEBYTECODE: '1' }, cwd: t.testdir(), all: true, reject: false, timeout: 120_000 })
    t.equal(exitCode, 0, `${name}: ${all.slice(-6000)}`)
    t.match(all, /\d{3,} generated/, `${name} was asked hundreds of times`)
  }
  await works(t, line)
})

const utf8 = (text: string) => Buffer.from(text)
const title = (text: string) => `{"title":${text},"authors":["Jane Austen"]}`
const withBytes = (...bytes: number[]) => Buffer.concat([utf8('{"title":"Emma'), Buffer.from(bytes), utf8('","authors":["Jane Austen"]}')])
const many = (count: number, make: (index: number) => string) => Array.from({ length: count }, (_, index) => make(index)).join(',')

/** Bodies, each with what the answer says of it: a code, or the field at fault, or what is wrong with it. */
const bodies: Record<string, [body: string | Buffer, says: string]> = {
  'a NUL character': [title('"Em\\u0000ma"'), '/title'],
  'a NUL character in a list': ['{"title":"Emma","authors":["Jane Austen","\\u0000"]}', '/authors/1'],
  'a NUL character in a name': ['{"title":"Emma","authors":["Jane Austen"],"\\u0000":1}', '/\u0000'],
  'half a surrogate pair': [title('"Em\\ud800ma"'), '/title'],
  'half a surrogate pair in a name': ['{"title":"Emma","authors":["Jane Austen"],"\\ud800":1}', '/\ud800'],
  'bytes that are not UTF-8': [withBytes(0xff, 0xfe), 'INVALID_JSON'],
  'half of a UTF-8 sequence, as long as what it would be replaced by': [withBytes(0xf0, 0x9f, 0x98), 'INVALID_JSON'],
  'UTF-16': [Buffer.from(title('"Emma"'), 'utf16le'), 'INVALID_JSON'],
  'a letter with hundreds of accents, in a title that is short enough': [title(`"a${'\u0301\u0323'.repeat(200)}"`), 'must not have more than 30 combining marks in a row'],
  'a prototype': ['{"title":"Emma","authors":["Jane Austen"],"__proto__":{"isbn":"x"}}', 'INVALID_JSON'],
  'a prototype in disguise': ['{"title":"Emma","authors":["Jane Austen"],"\\u005f_proto__":{"isbn":"x"}}', 'INVALID_JSON'],
  'a constructor': ['{"title":"Emma","authors":["Jane Austen"],"constructor":{"prototype":{"isbn":"x"}}}', 'INVALID_JSON'],
  'a number beyond all': ['{"title":"Emma","authors":["Jane Austen"],"price":1e400}', '/price'],
  'an integer that is none': ['{"title":"Emma","authors":["Jane Austen"],"price":9007199254740993}', '/price'],
  'a thousand levels': ['['.repeat(1000) + ']'.repeat(1000), 'NESTED_TOO_DEEP'],
  'sixty thousand levels': ['['.repeat(60_000) + ']'.repeat(60_000), 'NESTED_TOO_DEEP'],
  'sixty thousand wrong items': [`{"title":"Emma","authors":[${many(60_000, () => '1')}]}`, 'must not have more than 1000 entries'],
  'ten thousand unknown fields': [`{${many(10_000, index => `"${index}":1`)}}`, 'must not have more than 1000 entries'],
  'as many wrong items as are looked at': [`{"title":"Emma","authors":[${many(1000, () => '1')}]}`, '/authors/0'],
  'a list': ['[]', 'INVALID_INPUT'],
  'a number': ['1', 'INVALID_INPUT'],
  'half of it': ['{"title":"Em', 'INVALID_JSON'],
  'too much of it': [title(JSON.stringify('x'.repeat(200_000))), 'BODY_TOO_LARGE']
}

const answerBytesMax = 16 * 1024 // a hundred errors of a line each

t.test('commands that cannot be', async t => {
  const line = await pipeline(t)
  await works(t, line)
  const before = await counts(line)
  const send = async (body: string | Buffer, headers = {}) => await fetch(`${line.gateway}/books`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: body as string })
  for (const [what, [body, says]] of Object.entries(bodies)) {
    const began = performance.now()
    const response = await send(body)
    const text = await response.text()
    t.ok([400, 413].includes(response.status), `${what}: ${response.status}`)
    t.match(response.headers.get('content-type'), /^application\/problem\+json/, what)
    const { code, errors = [] } = JSON.parse(text)
    t.ok(code === says || errors.some(({ path, message }: Record<string, string>) => path === says || message === says), `${what} says ${says}: ${text.slice(0, 300)}`)
    t.ok(text.length < answerBytesMax, `${what}: an answer of ${text.length} bytes`)
    t.comment(`${what}: ${(performance.now() - began).toFixed(0)} ms`)
  }
  const head = 'POST /books HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n'
  const bad = withBytes(0xff)
  t.match(await raw(line.gateway, Buffer.concat([utf8(`${head}Transfer-Encoding: chunked\r\n\r\n${bad.length.toString(16)}\r\n`), bad, utf8('\r\n0\r\n\r\n')])), /^HTTP\/1.1 400 [^]*INVALID_JSON/, 'what is not UTF-8, in chunks')
  const body = title('"Emma"')
  for (const header of ['Content-Type: text/xml', `Idempotency-Key: ${'x'.repeat(5000)}`, 'If-Match: yes', 'Idempotency-Key: a\r\nIdempotency-Key: b', `Content-Length: ${body.length}\r\nContent-Length: 3`, 'Idempotency-Key: \u00ff']) {
    const own = header.startsWith('Content-Length') ? '' : `Content-Length: ${body.length}\r\n`
    const type = header.startsWith('Content-Type') ? head.replace(/Content-Type.*\r\n/, '') : head
    t.match(await raw(line.gateway, Buffer.from(`${type}${own}${header}\r\n\r\n${body}`, 'latin1')), /^HTTP\/1.1 (400|415) [^]*application\/problem\+json/, header.slice(0, 60))
  }
  const { body: { id } } = await line.post('/books', emma)
  for (const [name, other] of Object.entries({ 'urn:uuid:': `urn:uuid:${id}`, braces: `{${id}}`, 'no hyphens': id.replaceAll('-', ''), NUL: `${id}%00`, quotes: "'%20or%201=1" })) {
    t.match(await line.send('DELETE', `/books/${other}`), { status: 400, body: { code: 'INVALID_INPUT', errors: [{ path: '/id' }] } }, name)
  }
  t.match(await counts(line), { events: before.events + 1, books: before.books + 1 }, 'nothing was stored but our own')
  await works(t, line)
})

t.test('URLs that lead nowhere are answered as problems', async t => {
  const line = await pipeline(t)
  const requests = ['GET /books/%ff', 'GET /books/%', 'GET /books/%00', 'OPTIONS *', 'GET //books', 'GET /docs/static/%00', 'GET /docs/static/..%2f..%2fpackage.json', 'GET /docs/static/%ff', 'PROPFIND /books', `GET /books/${'x'.repeat(300)}`, `GET /books:batchGet?${'ids=0&'.repeat(9000)}`, 'GET /books?__proto__=1', 'GET /books?pageToken=%00', 'GET /books?pageSize=1e400', 'QUERY /books', 'get /books', 'GET /books HTTP/9.9\r\nX: y']
  for (const { url } of Object.values(line.apps)) {
    for (const request of requests) {
      t.match(await raw(url, `${request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`), /^HTTP\/1.1 4\d\d [^]*content-type: application\/problem\+json[^]*"code":"[A-Z_]+"/i, request.slice(0, 60))
    }
  }
  await works(t, line)
})

t.test('garbage behind a command is not answered in its place', async t => {
  const line = await pipeline(t)
  const body = title('"Piped"')
  const answer = await raw(line.gateway, `POST /books HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}GARBAGE\r\n\r\n`, { afterMs: 10_000 })
  t.match(answer, /^HTTP\/1.1 201 /)
  t.notMatch(answer, /HTTP\/1.1 400/)
  t.match(await counts(line), { events: 1, books: 1 })
  await works(t, line)
})

const slowLines = 9 // 5 s apart: 40 s in all

/** A batch with a line now and then. */
async function slowly (url: string, head: string, line: string): Promise<string> {
  const { hostname, port } = new URL(url)
  const socket = net.connect(Number(port), hostname)
  let answer = ''
  socket.on('data', chunk => { answer += chunk.toString('latin1') }).on('error', () => {})
  socket.write(head)
  for (let n = 0; n < slowLines; n++) {
    if (n > 0) await setTimeout(5000)
    socket.write(`${(line.length + 1).toString(16)}\r\n${line}\n\r\n`)
  }
  socket.write('0\r\n\r\n')
  await once(socket, 'close')
  return answer
}

t.test('connections that are no good', async t => {
  const line = await pipeline(t)
  await works(t, line)
  const before = await counts(line)
  const head = 'POST /books HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
  const slow = raw(line.gateway, `${head}Content-Length: 60\r\n\r\n{"title":"Emma",`)
  const slowHeaders = raw(line.gateway, 'POST /books HTTP/1.1\r\nHost: localhost\r\n')
  const batch = 'POST /books:batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n'
  const [silentBatch, brokenBatch, slowBatch] = [raw(line.gateway, batch), raw(line.gateway, `${batch}2\r\n{}\r\nzz\r\n`), slowly(line.gateway, batch, title('"Slow"'))]
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
  t.match(await silentBatch, /^HTTP\/1.1 408 [^]*REQUEST_TIMEOUT/, 'a batch that never begins')
  t.match(await brokenBatch, /^HTTP\/1.1 400 [^]*BAD_REQUEST/, 'a batch whose chunks are none')
  const answers = [...(await slowBatch).matchAll(/^\{.*\}$/gm)].map(([answer]) => JSON.parse(answer))
  t.same(answers.map(({ line, status }) => [line, status]), Array.from({ length: slowLines }, (_, n) => [n + 1, 201]), 'a batch that takes longer than a request may, and never stops for long')
  t.match(await counts(line), { events: before.events + 1 + slowLines }, 'nothing was stored but our own')
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

t.test('gRPC: garbage, and too much in one message', async t => {
  const line = await pipeline(t)
  await works(t, line)
  const url = `http://${line.grpc}`
  const preface = utf8('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])
  const continuation = Buffer.concat([Buffer.from([0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]), ...Array.from({ length: 5000 }, () => Buffer.from([0, 0, 1, 9, 0, 0, 0, 0, 1, 0x82]))])
  const garbage = [Buffer.alloc(2000, 0xff), utf8('GET / HTTP/1.1\r\nHost: a\r\n\r\n'), Buffer.concat([preface, Buffer.alloc(3000, 0x41)]), Buffer.concat([preface, settings, Buffer.from([0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 3])]), Buffer.concat([preface, settings, continuation])]
  for (const bytes of garbage) {
    const began = performance.now()
    await raw(url, bytes, { afterMs: 5000 })
    t.ok(performance.now() - began < 5000, 'the connection is closed')
  }
  await raw(url, preface, { afterMs: 300 })
  await t.rejects(call(line.books.batchGetBooks.bind(line.books), { ids: ['x'.repeat(2 * 1024 * 1024)] }), { code: status.RESOURCE_EXHAUSTED })
  await t.rejects(call(line.books.getBook.bind(line.books), { id: '\u0000' }), { code: status.INVALID_ARGUMENT })
  const bad = Buffer.from([0xff, 0xff, 0xff])
  const calls: Record<string, [bytes: Buffer, expected: status, headers?: Record<string, string>]> = {
    'no protobuf': [frame(bad), status.INVALID_ARGUMENT],
    'a field of another type': [frame(Buffer.from([0x08, 0x01])), status.INVALID_ARGUMENT],
    'a text that is not UTF-8': [frame(Buffer.from([0x0a, 0x02, 0xff, 0xfe])), status.INVALID_ARGUMENT],
    'a length beyond the limit': [Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1]), status.RESOURCE_EXHAUSTED],
    'little that becomes much': [frame(gzipSync(Buffer.alloc(100_000_000)), 1), status.RESOURCE_EXHAUSTED, { 'grpc-encoding': 'gzip' }],
    'not compressed, though it says so': [frame(bad, 1), status.INTERNAL, { 'grpc-encoding': 'gzip' }], // as grpc-js answers before anything of ours is asked
    'an unknown compression': [frame(bad, 1), status.UNIMPLEMENTED, { 'grpc-encoding': 'x' }],
    'no message': [Buffer.alloc(0), status.UNIMPLEMENTED],
    'half a message': [Buffer.from([0, 0, 0, 0, 9, 1]), status.UNIMPLEMENTED],
    'an unknown method': [frame(bad), status.UNIMPLEMENTED, { ':path': '/books.v1.BookQueryService/DropBooks' }]
  }
  for (const [what, [bytes, expected, headers]] of Object.entries(calls)) t.equal(await unary(url, bytes, headers), String(expected), what)
  await works(t, line)
})

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
    { key: id, value: Buffer.alloc(500_000, 0xff), headers },
    { key: id, value: null, headers },
    { key: null, value, headers },
    { key: null, value: null },
    { key: Buffer.from([0xff, 0xfe]), value, headers },
    { key: id, value: '['.repeat(100_000), headers },
    { key: id, value: '[]', headers },
    { key: id, value: '"x"', headers },
    { key: id, value, headers: { ...headers, ce_version: '-1' } },
    { key: id, value, headers: { ...headers, ce_time: 'now' } },
    { key: id, value, headers: { ...headers, ce_version: ['2', '3'] } },
    { key: id, value: JSON.stringify({ task: 'drop', data: { id } }), headers },
    { key: id, value: '{"task":"update","data":{"__proto__":{"id":"x"}}}', headers },
    { key: id, value, headers: { ...headers, 'a\0b': 'x', $ref: 'x', 'a.b': 'x' } }, // names that MongoDB does not have
    { key: id, value, headers: Object.fromEntries(Array.from({ length: 2000 }, (_, index) => [`h${index}`, 'x'])) }
  ]
  for (const partition of [0, 1, 2, 3, 4, 5]) await producer.send({ topic: line.settings.EVENTS_TOPIC, messages: junk.map(message => ({ ...message, partition })) })
  await until(async () => await line.mongo.collection('deadLetters').countDocuments() === 6 * junk.length, 'the dead letters')
  t.same(await counts(line), before)
  t.match((await line.get(`/books/${id}`)).body, { version: 1, title: 'Emma' })
  await line.send('PATCH', `/books/${id}`, { price: 1 })
  await until(async () => (await line.get(`/books/${id}`)).body.version === 2, 'what comes after')
  await line.restart('relay') // it reads the end of the topic, and must not take the junk for its own
  await line.restart('projector')
  await works(t, line)
})
