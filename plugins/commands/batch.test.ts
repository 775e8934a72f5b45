/** Batches against the real gateway and PostgreSQL: one answer for each line, in their order, whatever the lines and the clients are like. */
import http, { type ClientRequest, type IncomingMessage } from 'node:http'
import { once } from 'node:events'
import { setImmediate, setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { sql } from 'kysely'
import commands, { type CommandsOptions } from '@bifold/commands'
import { modules } from '@bifold/modules'
import openapi from '@bifold/openapi'
import postgres, { connect } from '@bifold/postgres'
import { build } from '@bifold/service'
import { stores, until, type Settings } from '@bifold/test'

const emma = { title: 'Emma', authors: ['Jane Austen'] }
const ndjson = { 'content-type': 'application/x-ndjson' }
const text = (lines: readonly unknown[]) => lines.map(line => typeof line === 'string' ? line : JSON.stringify(line)).join('\n')
const parsed = (body: string) => body.split('\n').filter(line => line !== '').map(line => JSON.parse(line))

async function gateway (t: Test, options: Omit<Partial<CommandsOptions>, 'modules'> = {}, given?: Settings) {
  const settings = given ?? await stores(t)
  const app = await build(async app => {
    await app.register(openapi, { title: 'Batches', description: '' })
    await app.register(postgres, { url: settings.POSTGRES_URL, modules })
    await app.register(commands, { modules, ...options })
  }, {}, { name: 'gateway', logLevel: 'silent' })
  t.teardown(async () => await app.close())
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  await until(async () => given !== undefined || (await fetch(`${url}/health/ready`)).ok, 'the gateway')
  const db = connect(settings.POSTGRES_URL, 2)
  t.teardown(async () => await db.destroy())
  const send = async (body: string | Buffer, headers: Record<string, string> = {}) => {
    const response = await fetch(`${url}/books:batch`, { method: 'POST', headers: { ...ndjson, ...headers }, body })
    return { status: response.status, headers: response.headers, lines: parsed(await response.text()) }
  }
  const count = async () => (await sql<{ events: number }>`select count(*)::int as events from events`.execute(db)).rows[0]!.events
  return { app, url, db, send, count }
}

/** A batch that is sent bit by bit. */
async function open (t: Test, url: string, headers: Record<string, string> = {}) {
  const agent = new http.Agent({ keepAlive: true })
  const request = http.request(`${url}/books:batch`, { agent, method: 'POST', headers: { ...ndjson, ...headers } })
  request.on('error', () => {})
  request.flushHeaders()
  t.teardown(() => { request.destroy() })
  const response = once(request, 'response') as Promise<[IncomingMessage]>
  response.catch(() => {})
  return { request, response }
}

/** Sends the body again and again, as fast as it is taken, until the request or the signal ends it; tells how often. */
function flood (request: ClientRequest, body: Buffer, end = new AbortController().signal) {
  request.setMaxListeners(0)
  const flooding = { times: 0, ended: run() }
  async function run () {
    await setImmediate()
    while (!end.aborted && !request.destroyed) {
      flooding.times++
      if (!request.write(body)) await Promise.race([once(request, 'drain'), once(request, 'close'), once(end, 'abort')])
    }
  }
  return flooding
}

/** The rest of an answer; what was broken off has no end. */
async function rest (response: IncomingMessage): Promise<{ lines: any[], complete: boolean }> {
  let body = ''
  try {
    for await (const chunk of response.setEncoding('utf8')) body += chunk
  } catch {}
  return { lines: parsed(body.slice(0, body.lastIndexOf('\n') + 1)), complete: response.complete }
}

t.test('each line is answered in its place, and one that is refused holds up no other', async t => {
  const { send, count, db } = await gateway(t)
  const { status, headers, lines } = await send(Buffer.concat([Buffer.from(text([
    emma, '', { ...emma, isbn: '9780141439587' }, '{"title":', { title: '', authors: [], colour: 'red' }, '  \r', { ...emma, description: 'x'.repeat(200_000) },
    '1', '['.repeat(50) + ']'.repeat(50), '{"__proto__":{"title":"x"}}', { ...emma, isbn: '978-0-14-143958-7' }, { ...emma, title: ' Cafe\u0301 ' }
  ]) + '\n'), Buffer.from([0x22, 0xff, 0x22, 0x0a]), Buffer.from(JSON.stringify(emma))]))
  t.equal(status, 200)
  t.match(headers.get('content-type'), /^application\/x-ndjson/)
  t.match(lines, [
    { line: 1, status: 201, id: /^[0-9a-f]{8}-[0-9a-f]{4}-7/, version: 1, consistencyToken: /^[\w.-]+$/ }, { line: 3, status: 201 }, { line: 4, status: 400, code: 'INVALID_JSON' },
    { line: 5, type: '/errors/INVALID_INPUT', title: 'Bad Request', status: 400, code: 'INVALID_INPUT', instance: '/books:batch', requestId: String, detail: String },
    { line: 7, status: 413, code: 'BODY_TOO_LARGE' }, { line: 8, code: 'INVALID_INPUT' }, { line: 9, code: 'NESTED_TOO_DEEP' }, { line: 10, code: 'INVALID_JSON' },
    { line: 11, status: 409, code: 'BOOKS_ISBN_TAKEN', errors: [{ path: '/isbn' }] }, { line: 12, status: 201 }, { line: 13, code: 'INVALID_JSON', detail: /UTF-8/ }, { line: 14, status: 201 }
  ])
  t.same(lines.map(({ line }) => line), [1, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14])
  t.same(lines[3].errors.map(({ path }: { path: string }) => path).sort(), ['/authors', '/colour', '/title'])
  t.equal(await count(), 4)
  const { rows } = await sql`select title from books where id = ${lines[9].id}`.execute(db)
  t.same(rows, [{ title: 'Café' }])
})

t.test('thousands of lines share transactions, and are answered in order', async t => {
  const { send, count, app } = await gateway(t)
  const all = 5000
  const { lines } = await send(text(Array.from({ length: all }, (_, n) => n % 7 === 3 ? { title: '', authors: ['x'] } : { ...emma, title: `Volume ${n}` })))
  t.same(lines.map(({ line }) => line), Array.from({ length: all }, (_, n) => n + 1))
  t.same(lines.map(({ status }) => status), Array.from({ length: all }, (_, n) => n % 7 === 3 ? 400 : 201))
  const added = lines.filter(({ status }) => status === 201)
  t.equal(new Set(added.map(({ id }) => id)).size, added.length)
  t.equal(await count(), added.length)
  const metrics = (await app.inject('/metrics')).body
  t.match(metrics, new RegExp(`bifold_commands_total\\{command="addBook",outcome="accepted"\\} ${added.length}`))
  t.ok(Number(/bifold_commit_group_size_count (\d+)/.exec(metrics)![1]) < all / 20, 'in a few groups')
})

t.test('a line that takes what another has costs its group little', async t => {
  const { send, db } = await gateway(t)
  await send(text([{ ...emma, isbn: '9780141439587' }]))
  const { lines } = await send(text(Array.from({ length: 400 }, (_, n) => n === 200 ? { ...emma, isbn: '9780141439587' } : emma)))
  t.same(lines.filter(({ status }) => status !== 201).map(({ line, code }) => [line, code]), [[201, 'BOOKS_ISBN_TAKEN']])
  const { rows } = await sql<{ transactions: number }>`select count(distinct xmin::text)::int as transactions from events`.execute(db)
  t.ok(rows[0]!.transactions < 30, `${rows[0]!.transactions} transactions`)
})

t.test('lines are executed in their order, also beside other batches: of two that want the same, the first has it', async t => {
  const { send } = await gateway(t, { limits: { groupSizeMax: 50 }, batchLimits: { stretchLinesMax: 30 } })
  const isbns = ['9780000000002', '9780000000019', '9780000000026', '9780000000033', '9780000000040', '9780000000057']
  const lines = Array.from({ length: 600 }, (_, n) => n % 100 < 3 ? { ...emma, isbn: isbns[Math.floor(n / 300) * 3 + n % 3] } : emma)
  const [{ lines: answers }] = await Promise.all([send(text(lines)), send(text(Array.from({ length: 600 }, () => emma)))])
  t.same(answers.filter(({ line, status }) => status === 201 && 'isbn' in lines[line - 1]!).map(({ line }) => line), [1, 2, 3, 301, 302, 303])
  t.equal(answers.filter(({ code }) => code === 'BOOKS_ISBN_TAKEN').length, 12)
})

t.test('a line is answered while the next is not yet sent', async t => {
  const { url } = await gateway(t)
  const { request, response } = await open(t, url)
  request.write(`${JSON.stringify(emma)}\n{"title":`)
  const [answer] = await response
  const chunks = answer[Symbol.asyncIterator]()
  t.match(parsed(String((await chunks.next()).value)), [{ line: 1, status: 201 }])
  request.write('"Persuasion","authors":["Jane Austen"]}\n')
  t.match(parsed(String((await chunks.next()).value)), [{ line: 2, status: 201 }])
  request.end()
  t.equal((await chunks.next()).done, true)
})

t.test('keys: a line has its own, or the batch\'s with its number, and is as if it were sent alone', async t => {
  const { send, count, url } = await gateway(t)
  const keyed = [{ ...emma, idempotencyKey: 'one' }, { idempotencyKey: 'two', ...emma }, emma]
  const first = await send(text(keyed), { 'idempotency-key': 'all' })
  t.match(first.lines, [{ status: 201 }, { status: 201 }, { status: 201 }])
  t.notOk(first.lines.some(line => 'replayed' in line))
  const again = await send(text(keyed), { 'idempotency-key': 'all' })
  t.same(again.lines, first.lines.map(line => ({ ...line, replayed: true })))
  t.equal(await count(), 3)
  const single = async (key: string, body: object) => await fetch(`${url}/books`, { method: 'POST', headers: { 'content-type': 'application/json', 'idempotency-key': key }, body: JSON.stringify(body) })
  t.match(await (await single('two', emma)).json(), { id: first.lines[1].id })
  t.match(await (await single('all/3', emma)).json(), { id: first.lines[2].id })
  t.match((await send(text([{ ...emma, title: 'Other', idempotencyKey: 'one' }, { ...emma, idempotencyKey: 'a b' }, { ...emma, idempotencyKey: 1 }, emma]), { 'idempotency-key': 'new' })).lines, [
    { status: 422, code: 'IDEMPOTENCY_KEY_REUSED' }, { status: 400, errors: [{ path: '/idempotencyKey', message: /printable/ }] }, { status: 400, errors: [{ path: '/idempotencyKey' }] }, { status: 201 }
  ])
})

t.test('what is no batch is answered as a problem', async t => {
  const { url, send } = await gateway(t)
  const post = async (headers: Record<string, string>, body?: string) => {
    const response = await fetch(`${url}/books:batch`, { method: 'POST', headers, ...body === undefined ? {} : { body } })
    return { status: response.status, body: await response.json() }
  }
  t.match(await post({ 'content-type': 'application/json' }, '{}'), { status: 415, body: { code: 'UNSUPPORTED_MEDIA_TYPE', detail: /send application\/x-ndjson/ } })
  t.match(await post({}), { status: 415 })
  t.match(await post({ ...ndjson, 'idempotency-key': 'a b' }, '{}'), { status: 400, body: { code: 'INVALID_INPUT' } })
  t.match(await send(''), { status: 200, lines: [] })
  t.match(await send('\n\n \n'), { status: 200, lines: [] })
  t.match((await send(text([emma]), { 'content-type': 'application/jsonl' })).lines, [{ status: 201 }])
  t.match(await (await fetch(`${url}/books`, { method: 'POST', headers: ndjson, body: '{}' })).json(), { status: 415 }, 'and a batch is no command')
  const document = await (await fetch(`${url}/docs/json`)).json()
  t.match(document, { paths: { '/books:batch': { post: { operationId: 'addBookBatch', requestBody: { content: { 'application/x-ndjson': { schema: { required: ['title', 'authors'] } } } }, responses: { 200: { content: { 'application/x-ndjson': {} } } } } } } })
})

t.test('a client that does not read is not read from, and both go on when it does', async t => {
  const { url, count } = await gateway(t)
  const { request, response } = await open(t, url)
  const line = Buffer.from(`${JSON.stringify({ title: 'x'.repeat(501), authors: Array.from({ length: 90 }, () => 1) })}\n`) // refused, with 91 reasons: the answer is many times the line
  const end = new AbortController()
  const flooding = flood(request, line, end.signal)
  const [answer] = await response
  let before = -1
  await until(async () => {
    const stalled = flooding.times === before
    before = flooding.times
    await setTimeout(300)
    return stalled
  }, 'the client to be held up')
  end.abort()
  await flooding.ended
  const sent = flooding.times
  t.comment(`${sent} lines were sent, ${(sent * line.length / 1e6).toFixed(1)} MB, before the answers held them up`)
  t.ok(sent < 50_000)
  request.end()
  const { lines, complete } = await rest(answer)
  t.ok(complete)
  t.equal(lines.length, sent)
  t.equal(await count(), 0)
})

t.test('a client that goes away stops the work; what it was answered is done', async t => {
  const { url, count, app } = await gateway(t)
  const { request, response } = await open(t, url)
  const body = Buffer.from(`${text(Array.from({ length: 500 }, () => emma))}\n`)
  const flooding = flood(request, body)
  const [answer] = await response
  let answered = ''
  for await (const chunk of answer) {
    answered += chunk
    if (answered.length > 300_000) break
  }
  request.destroy()
  await flooding.ended
  const sent = flooding.times * 500
  const seen = parsed(answered.slice(0, answered.lastIndexOf('\n') + 1)).length
  let before = -1
  await until(async () => {
    const now = await count()
    const still = now === before
    before = now
    await setTimeout(200)
    return still
  }, 'the work to end')
  t.ok(before >= seen, `${seen} were answered, ${before} done`)
  t.ok(before < sent + 500 && before < seen + 12_000, `of ${sent} sent`)
  t.equal((await app.inject('/health/ready')).statusCode, 200)
})

t.test('a client that sends nothing is told after the time that a line may take; one that sends now and then is not', async t => {
  const { url } = await gateway(t, { batchLimits: { lineMs: 600 } })
  const silent = await open(t, url)
  const [answer] = await silent.response
  t.equal(answer.statusCode, 408)
  t.match(JSON.parse((await answer.toArray()).join('')), { code: 'REQUEST_TIMEOUT' })
  const slow = await open(t, url)
  for (let n = 0; n < 5; n++) {
    slow.request.write(`${JSON.stringify(emma)}\n`)
    await setTimeout(300)
  }
  slow.request.write('{"ti') // and no more
  const { lines, complete } = await rest((await slow.response)[0])
  t.match(lines, [{ line: 1 }, { line: 2 }, { line: 3 }, { line: 4 }, { line: 5 }, { status: 408, code: 'REQUEST_TIMEOUT', nextLine: 6 }])
  t.ok(complete)
})

t.test('more batches than there may be are refused, and single commands are not', async t => {
  const { url, send } = await gateway(t, { batchLimits: { batchesMax: 2 }, limits: { queueMax: 1 } })
  const [one, two] = await Promise.all([open(t, url), open(t, url)])
  for (const { request } of [one!, two!]) request.write(`${JSON.stringify(emma)}\n`)
  await Promise.all([one!.response, two!.response])
  t.match(await send(text([emma])), { status: 503, lines: [{ code: 'OVERLOADED' }] })
  one!.request.end()
  await until(async () => (await send(text(Array.from({ length: 3000 }, () => emma)))).lines.filter(({ status }) => status === 201).length === 3000, 'a batch that fills the queue many times over')
  t.equal((await fetch(`${url}/books`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(emma) })).status, 201)
})

t.test('a gateway that is stopped answers what it has read, and tells where to go on', async t => {
  const { url, app, count } = await gateway(t)
  const { request, response } = await open(t, url)
  const body = Buffer.from(`${text(Array.from({ length: 100 }, () => emma))}\n`)
  const flooding = flood(request, body)
  const [answer] = await response
  const answered = rest(answer)
  await setTimeout(300)
  const closed = app.close()
  const { lines, complete } = await answered
  request.destroy()
  await flooding.ended
  t.ok(complete, 'the answer has an end')
  const last = lines.pop()
  t.match(last, { status: 503, code: 'STOPPING', nextLine: lines.length + 1 })
  t.notOk('line' in last)
  t.same(lines.map(({ line, status }) => [line, status]), Array.from({ length: lines.length }, (_, n) => [n + 1, 201]))
  t.equal(await count(), lines.length, 'nothing is done that is not answered')
  t.ok(lines.length < flooding.times * 100)
  await closed
})

t.test('while PostgreSQL is away, a batch is refused as a whole', async t => {
  const settings = await stores(t)
  const { send } = await gateway(t, {}, { ...settings, POSTGRES_URL: 'postgres://postgres@127.0.0.1:1/bifold' })
  const { status, headers, lines } = await send(text([emma, { title: '' }, emma]))
  t.match({ status, lines }, { status: 503, lines: [{ code: 'UNAVAILABLE' }] })
  t.equal(headers.get('retry-after'), '1')
})
