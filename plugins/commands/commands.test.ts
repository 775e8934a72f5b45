/** The gateway against the real PostgreSQL: what it accepts, what it refuses and in which words, and that nothing is half done. */
import t, { type Test } from 'tap'
import { sql } from 'kysely'
import { connect } from '@bifold/postgres'
import { startApp, stores, until } from '@bifold/test'
import { digestOf } from './headers.ts'

const emma = { title: 'Emma', authors: ['Jane Austen'] }
let isbns = 0
// Valid and never the same: 978, nine digits, and the check digit of ISO 2108.
const isbn = () => {
  const body = `978${String(++isbns).padStart(9, '0')}`
  const sum = [...body].reduce((total, digit, index) => total + Number(digit) * (index % 2 === 0 ? 1 : 3), 0)
  return `${body}${(10 - sum % 10) % 10}`
}

async function gateway (t: Test) {
  const settings = await stores(t)
  const { app, url } = await startApp(t, 'gateway', settings)
  const db = connect(settings.POSTGRES_URL, 2)
  t.teardown(async () => await db.destroy())
  const send = async (method: 'POST' | 'PATCH' | 'DELETE', url: string, payload?: unknown, headers: Record<string, string> = {}) => {
    const response = await app.inject({ method, url, headers: { ...payload === undefined ? {} : { 'content-type': 'application/json' }, ...headers }, ...payload === undefined ? {} : { payload: typeof payload === 'string' ? payload : JSON.stringify(payload) } })
    return { status: response.statusCode, headers: response.headers, body: response.json() }
  }
  const events = async () => await db.selectFrom('events').selectAll().orderBy('position').execute()
  return { app, url, db, send, events }
}

t.test('state and event are committed together', async t => {
  const { send, events, db } = await gateway(t)
  const { status, headers, body } = await send('POST', '/books', { ...emma, isbn: '978-0-14-143958-7', publishedYear: -1750 })
  t.equal(status, 201)
  t.match(headers, { location: `/books/${body.id}`, etag: '"1"' })
  t.match(body.id, /^[0-9a-f]{8}-[0-9a-f]{4}-7/, 'a UUIDv7')
  t.match(await events(), [{ aggregateId: body.id, version: 1, type: 'BookAdded', aggregate: 'books', value: { task: 'insert', data: { id: body.id, ...emma } } }])
  const { rows } = await sql`select * from books`.execute(db)
  t.match(rows, [{ id: body.id, version: 1, title: 'Emma', authors: ['Jane Austen'], isbn: '9780141439587', publishedYear: -1750 }])
})

t.test('text is trimmed and composed before it is checked', async t => {
  const { send, events } = await gateway(t)
  await send('POST', '/books', { title: '  Cafe\u0301 ', authors: [' Zoë'] })
  t.match(await events(), [{ value: { data: { title: 'Café', authors: ['Zoë'] } } }])
  t.match(await send('POST', '/books', { ...emma, title: '   ' }), { status: 400, body: { errors: [{ path: '/title' }] } })
})

t.test('every field that was wrong is named, and nothing is stored', async t => {
  const { send, events } = await gateway(t)
  const { status, headers, body } = await send('POST', '/books', { title: '', authors: [], isbn: '9780141439588', publishedYear: 'then', language: 'e', category: 'a\u0007b', pages: 0, price: 1.5, description: 'x'.repeat(10_001), colour: 'red' })
  t.equal(status, 400)
  t.match(headers['content-type'], /^application\/problem\+json/)
  t.match(body, { type: '/errors/INVALID_INPUT', title: 'Bad Request', status: 400, code: 'INVALID_INPUT', instance: '/books', requestId: String })
  t.same(body.errors.map(({ path }: { path: string }) => path).sort(), ['/authors', '/category', '/colour', '/description', '/isbn', '/language', '/pages', '/price', '/publishedYear', '/title'])
  t.same(await events(), [])
})

t.test('each kind of bad request has an answer of its own', async t => {
  const { send, app } = await gateway(t)
  t.match(await send('POST', '/books', '{"title":'), { status: 400, body: { code: 'INVALID_JSON' } })
  t.match(await send('POST', '/books', '', { 'content-type': 'application/json' }), { status: 400 })
  t.match(await send('POST', '/books', 'title=Emma', { 'content-type': 'text/plain' }), { status: 415, body: { code: 'UNSUPPORTED_MEDIA_TYPE' } })
  t.match(await send('POST', '/books', 'title=Emma', { 'content-type': 'application/x-www-form-urlencoded' }), { status: 415 })
  t.match(await send('POST', '/books', { ...emma, description: 'x'.repeat(200_000) }), { status: 413, body: { code: 'BODY_TOO_LARGE' } })
  t.match(await send('POST', '/books', { ...emma, authors: JSON.parse('['.repeat(50) + ']'.repeat(50)) }), { status: 400, body: { code: 'NESTED_TOO_DEEP' } })
  t.match(await send('POST', '/books', `${'['.repeat(50_000)}${']'.repeat(50_000)}`), { status: 400 })
  t.match(await send('POST', '/books', { ...emma, title: 'x\ud800' }), { status: 400, body: { errors: [{ path: '/title', message: 'must be well-formed Unicode' }] } })
  t.match(await send('POST', '/books', '{"__proto__":{"title":"x"}}'), { status: 400 })
  t.match(await send('PATCH', '/books/emma', { title: 'x' }), { status: 400, body: { errors: [{ path: '/id' }] } })
  t.match(await send('PATCH', '/books/019a0000-0000-7000-8000-000000000000', { title: 'x' }), { status: 404, body: { code: 'BOOKS_NOT_FOUND' } })
  t.match((await app.inject('/nowhere')).json(), { status: 404, code: 'ROUTE_NOT_FOUND' })
})

t.test('If-Match guards against a change that the caller has not seen', async t => {
  const { send } = await gateway(t)
  const { body: { id } } = await send('POST', '/books', emma)
  const revise = async (header: string, price: number) => await send('PATCH', `/books/${id}`, { price }, { 'if-match': header })
  t.match(await revise('"2"', 1), { status: 412, body: { code: 'VERSION_MISMATCH' } })
  t.match(await revise('W/"1"', 1), { status: 412 }, 'a weak tag never matches')
  t.match(await revise('1', 1), { status: 400, body: { errors: [{ path: '/if-match' }] } })
  t.match(await revise('"7", "1"', 1), { status: 200, headers: { etag: '"2"' } })
  t.match(await revise('*', 2), { status: 200, headers: { etag: '"3"' } })
  t.match(await send('DELETE', `/books/${id}`, undefined, { 'if-match': '"1"' }), { status: 412 })
})

t.test('an ISBN is taken once, whoever asks at the same moment, and free again after the withdrawal', async t => {
  const { send, events } = await gateway(t)
  const one = isbn()
  const answers = await Promise.all(Array.from({ length: 20 }, async () => await send('POST', '/books', { ...emma, isbn: one })))
  t.equal(answers.filter(({ status }) => status === 201).length, 1)
  t.equal(answers.filter(({ status, body }) => status === 409 && body.code === 'BOOKS_ISBN_TAKEN' && body.errors[0].path === '/isbn').length, 19)
  t.equal((await events()).length, 1)
  const { body: { id } } = answers.find(({ status }) => status === 201)!
  await send('DELETE', `/books/${id}`)
  t.match(await send('POST', '/books', { ...emma, isbn: one }), { status: 201 })
})

t.test('commands that come together each fail for their own reasons only', async t => {
  const { send, events } = await gateway(t)
  const taken = isbn()
  await send('POST', '/books', { ...emma, isbn: taken })
  const answers = await Promise.all(Array.from({ length: 60 }, async (_, n) => await send('POST', '/books', { ...emma, isbn: n % 3 === 0 ? taken : isbn() })))
  t.same(answers.map(({ status }) => status), answers.map((_, n) => n % 3 === 0 ? 409 : 201))
  t.equal((await events()).length, 41)
})

t.test('many changes of one book at once give it consecutive versions', async t => {
  const { send, events } = await gateway(t)
  const { body: { id } } = await send('POST', '/books', emma)
  const answers = await Promise.all(Array.from({ length: 50 }, async (_, price) => await send('PATCH', `/books/${id}`, { price })))
  t.same(answers.map(({ body }) => body.version).sort((a, b) => a - b), Array.from({ length: 50 }, (_, n) => n + 2))
  t.same((await events()).map(({ version }) => version), Array.from({ length: 51 }, (_, n) => n + 1), 'in the event log too, in their order')
})

t.test('the same Idempotency-Key again gives the same answer and does nothing twice', async t => {
  const { send, events } = await gateway(t)
  const key = { 'idempotency-key': 'add-emma' }
  const first = await send('POST', '/books', emma, key)
  const again = await send('POST', '/books', { authors: emma.authors, title: emma.title }, key)
  t.same(again.body, first.body)
  t.equal(again.headers['idempotency-replayed'], 'true')
  t.match(await send('POST', '/books', { ...emma, title: 'Persuasion' }, key), { status: 422, body: { code: 'IDEMPOTENCY_KEY_REUSED' } })
  const together = await Promise.all(Array.from({ length: 10 }, async () => await send('POST', '/books', emma, { 'idempotency-key': 'at-once' })))
  t.equal(new Set(together.map(({ body }) => body.id)).size, 1)
  t.equal((await events()).length, 2)
  t.match(await send('POST', '/books', { ...emma, title: '' }, { 'idempotency-key': 'refused' }), { status: 400 })
  t.match(await send('POST', '/books', emma, { 'idempotency-key': 'refused' }), { status: 201 }, 'a refused command leaves the key free')
})

t.test('two gateways on one database: one ISBN, one key, no deadlock', async t => {
  const settings = await stores(t)
  const gateways = await Promise.all([startApp(t, 'gateway', settings), startApp(t, 'gateway', settings)])
  const post = async (n: number, body: object, key?: string) => await gateways[n % 2]!.app.inject({ method: 'POST', url: '/books', headers: key === undefined ? {} : { 'idempotency-key': key }, payload: body })
  const codes = Array.from({ length: 30 }, isbn)
  // Each ISBN twice, in opposite orders, one from each side.
  const answers = await Promise.all([...codes.map(async code => await post(0, { ...emma, isbn: code })), ...codes.toReversed().map(async code => await post(1, { ...emma, isbn: code }))])
  t.equal(answers.filter(({ statusCode }) => statusCode === 201).length, 30)
  t.equal(answers.filter(({ statusCode }) => statusCode === 409).length, 30)
  const keyed = await Promise.all(Array.from({ length: 10 }, async (_, n) => await post(n, emma, 'one')))
  t.equal(new Set(keyed.map(response => response.json().id)).size, 1)
})

t.test('the OpenAPI document shows the routes, their schemas and examples', async t => {
  const { app } = await gateway(t)
  const document = (await app.inject('/docs/json')).json()
  t.match(document, { openapi: /^3\.1/, paths: { '/books': { post: { operationId: 'addBook', requestBody: { content: { 'application/json': { schema: { required: ['title', 'authors'] }, example: { title: 'Emma' } } } } } }, '/books/{id}': { patch: {}, delete: {} } } })
  t.ok(document.paths['/books'].post.responses['412'].content['application/problem+json'])
  t.equal((await app.inject('/docs/')).statusCode, 200)
})

t.test('a key is kept for 24 hours, and then removed', async t => {
  const { app, db } = await gateway(t)
  await app.inject({ method: 'POST', url: '/books', headers: { 'idempotency-key': 'young' }, payload: emma })
  await sql`
    insert into idempotency_keys (digest, fingerprint, id, version, created_at)
    select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, now() - interval '24 hours' from generate_series(1, 2500) as n
    union all select ${digestOf('almost')}::uuid, gen_random_uuid(), gen_random_uuid(), 1, now() - interval '23 hours 59 minutes'`.execute(db)
  const kept = async () => (await sql<{ digest: string }>`select replace(digest::text, '-', '') as digest from idempotency_keys`.execute(db)).rows.map(({ digest }) => digest).sort()
  await until(async () => (await kept()).length === 2, 'both batches')
  t.same(await kept(), ['almost', 'young'].map(digestOf).sort())
})

t.test('while PostgreSQL is away: 503 with Retry-After, not ready with the reason, and no crash', async t => {
  const settings = { ...await stores(t), POSTGRES_URL: 'postgres://postgres@127.0.0.1:1/bifold' }
  const { app } = await startApp(t, 'gateway', settings, { ready: false })
  const response = await app.inject({ method: 'POST', url: '/books', payload: emma })
  t.match({ status: response.statusCode, headers: response.headers, body: response.json() }, { status: 503, headers: { 'retry-after': '1' }, body: { code: 'UNAVAILABLE' } })
  const ready = await app.inject('/health/ready')
  t.match({ status: ready.statusCode, body: ready.json() }, { status: 503, body: { checks: { postgres: { ok: false, reason: /ECONNREFUSED/ } } } })
  t.equal((await app.inject('/health/live')).statusCode, 200)
})
