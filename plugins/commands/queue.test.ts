/** The queue of commands on the real Kafka and PostgreSQL: done once, in order, whoever is away meanwhile. */
import t, { type Test } from 'tap'
import { sql } from 'kysely'
import { Registry } from 'prom-client'
import { compiler } from '@bifold/cqrs'
import commands, { type CommandsOptions } from '@bifold/commands'
import kafka, { ensureTopic, Outdated, partitionOf, topicIdOf } from '@bifold/kafka'
import { modules } from '@bifold/modules'
import { books } from '@bifold/modules/books'
import openapi from '@bifold/openapi'
import postgres, { connect, migrate } from '@bifold/postgres'
import { build } from '@bifold/service'
import { kafkaFor, servers, stores, until, type Settings } from '@bifold/test'
import { openIn } from './dequeue.ts'
import { makeExecutor } from './executor.ts'
import { makeOutcomes, type Outcomes } from './outcomes.ts'
import { writeCommand } from './queued.ts'

const uuid = (n: number, kind = 4) => `${String(n).padStart(8, '0')}-0000-${kind}000-8000-000000000000`
const emma = { title: 'Emma', authors: ['Jane Austen'] }
const byQueue = { prefer: 'respond-async' }

async function gateway (t: Test, settings: Settings, options: Omit<Partial<CommandsOptions>, 'modules'> = {}) {
  const app = await build(async app => {
    await app.register(openapi, { title: 'Queue', description: '' })
    await app.register(postgres, { url: settings.POSTGRES_URL, modules })
    await app.register(kafka, { brokers: settings.KAFKA_BROKERS, beside: true })
    await app.register(commands, { modules, queue: { topic: settings.EVENTS_TOPIC }, ...options })
  }, {}, { name: 'gateway', logLevel: 'silent' })
  t.teardown(async () => await app.close())
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const send = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const response = await fetch(`${url}${path}`, { method, headers: { ...body === undefined ? {} : { 'content-type': 'application/json' }, ...headers }, ...body === undefined ? {} : { body: JSON.stringify(body) } })
    return { status: response.status, headers: response.headers, body: await response.json() as any }
  }
  /** Puts a command into the queue as soon as that takes any. */
  const queue = async (method: string, path: string, body?: unknown, headers = {}) => await until(async () => {
    const answer = await send(method, path, body, { ...byQueue, ...headers })
    return answer.status === 202 && answer
  }, 'the queue to accept')
  /** What became of it, when it is done. */
  const outcome = async ({ headers }: { headers: Headers }) => await until(async () => {
    const { status, body } = await send('GET', headers.get('location')!, undefined, { prefer: 'wait=5' })
    return status === 200 && body.status !== 'queued' && body
  }, 'the outcome')
  const metric = async (name: string) => Number(new RegExp(`^${name} (.+)$`, 'm').exec(await (await fetch(`${url}/metrics`)).text())![1])
  return { app, url, send, queue, outcome, metric }
}

function database (t: Test, settings: Settings) {
  const db = connect(settings.POSTGRES_URL, 4)
  t.teardown(async () => await db.destroy())
  const events = async () => (await sql<{ id: string, version: number, type: string, value: any }>`select aggregate_id as id, version, type, value from events order by position`.execute(db)).rows
  return { db, events }
}

async function producerFor (t: Test, settings: Settings) {
  const producer = kafkaFor(settings).producer()
  await producer.connect()
  t.teardown(async () => await producer.disconnect())
  return async (key: string, ...values: (string | null)[]) => { await producer.send({ topic: `${settings.EVENTS_TOPIC}.commands`, messages: values.map(value => ({ key, value, partition: partitionOf(key, 6) })) }) }
}

t.test('a command is accepted, done, and asked for: succeeded or refused, and in order for each aggregate', async t => {
  const settings = await stores(t)
  const { send, queue, outcome, metric } = await gateway(t, settings)
  const { events } = database(t, settings)
  const added = await queue('POST', '/books', { ...emma, isbn: '9780141439587' })
  t.match(added.headers.get('preference-applied'), 'respond-async')
  t.match(added.headers.get('location'), /^\/commands\/[0-9a-f-]{36}\.\d+\.\d+$/)
  t.match(await outcome(added), { status: 'succeeded', result: { id: added.body.id, version: 1, consistencyToken: String } })
  const prices = Array.from({ length: 60 }, (_, n) => n + 1)
  const revised = []
  for (const price of prices) revised.push(await queue('PATCH', `/books/${added.body.id}`, { price }))
  t.same(await Promise.all(revised.map(async one => (await outcome(one)).result.version)), prices.map(price => price + 1))
  t.same((await events()).slice(1).map(({ value }) => value.data.price), prices)
  t.match(await outcome(await queue('POST', '/books', { ...emma, isbn: '9780141439587' })), { status: 'refused', problem: { status: 409, code: 'BOOKS_ISBN_TAKEN', errors: [{ path: '/isbn' }] } })
  t.match(await outcome(await queue('PATCH', `/books/${added.body.id}`, { price: 1 }, { 'if-match': '"7"' })), { status: 'refused', problem: { code: 'VERSION_MISMATCH' } })
  t.match(await outcome(await queue('DELETE', `/books/${added.body.id}`, undefined, { 'if-match': '"61", W/"3"' })), { status: 'succeeded', result: { version: 62 } })
  const keyed = await Promise.all([queue('POST', '/books', emma, { 'idempotency-key': 'once' }), queue('POST', '/books', emma, { 'idempotency-key': 'once' })])
  const [one, two] = await Promise.all(keyed.map(outcome))
  t.same(one.result, two.result)
  for (const { body } of keyed) t.notOk('id' in body, 'which of them adds the book is not known yet')
  t.match(await send('POST', '/books', { title: '' }, byQueue), { status: 400, body: { code: 'INVALID_INPUT' } }, 'input is checked before')
  const [id] = added.headers.get('location')!.slice('/commands/'.length).split('.')
  for (const unknown of ['x', `${id!.replaceAll(/\w/g, '0')}.0.0`, `${id!.replaceAll(/\w/g, '0')}.0.999999999`, `${id}.7000.1`]) {
    const { status, body } = await send('GET', `/commands/${unknown}`)
    if (unknown.startsWith(id!)) t.equal(status, 200, 'the id alone tells an outcome')
    else t.match({ status, body }, { status: 404, body: { code: 'COMMAND_NOT_FOUND' } }, unknown)
  }
  await until(async () => await metric('bifold_command_queue_length') === 0, 'the metric')
})

t.test('commands are done also with a POSTGRES_URL that pg takes, and URL does not', async t => {
  const settings = await stores(t)
  const { username, password, pathname, hostname, port } = new URL(settings.POSTGRES_URL)
  const { queue, outcome } = await gateway(t, { ...settings, POSTGRES_URL: `postgres://${username}:${password}@${pathname}?host=${hostname}&port=${port}` })
  t.match(await outcome(await queue('POST', '/books', emma)), { status: 'succeeded' })
})

t.test('what is on the topic twice, or is no command, is passed over', async t => {
  const settings = await stores(t)
  const { queue, outcome, metric } = await gateway(t, settings)
  const { events, db } = database(t, settings)
  await outcome(await queue('POST', '/books', emma))
  const put = await producerFor(t, settings)
  const id = '019a0000-0000-7000-8000-000000000001'
  const request = (queued: string, input: object) => writeCommand('books.addBook', queued, { command: books.commands['addBook']!, id, input, bytes: 1, expected: undefined, key: undefined, requestId: 'r', traceparent: 't' })
  const twice = request('11111111-1111-4111-8111-111111111111', { ...emma, title: 'Twice' })
  const junk = [null, 'x', '[]', '{}', twice.replace('"queued":"1', '"queued":"x'), '['.repeat(10_000)]
  await put(id, twice, ...junk, twice)
  await put(id, request('22222222-2222-4222-8222-222222222222', { title: 1 }), twice)
  await until(async () => Number((await sql<{ n: number }>`select count(*)::int as n from queued_commands`.execute(db)).rows[0]!.n) === 3, 'the outcomes')
  t.equal((await events()).filter(event => event.id === id).length, 1)
  const { rows } = await sql<{ problem: any }>`select problem from queued_commands where problem is not null`.execute(db)
  t.match(rows, [{ problem: { code: 'INVALID_INPUT', errors: [{ path: '/authors' }, { path: '/title' }] } }])
  await until(async () => await metric('bifold_command_queue_junk_total') === junk.length, 'the junk to be counted')
})

/** A message of the queue. */
const message = (n: number, name: string, id: string, input: object, expected?: number[]) =>
  ({ offset: String(n), timestamp: '0', key: null, value: Buffer.from(writeCommand(`books.${name}`, uuid(n), { command: books.commands['addBook']!, id, input, bytes: 1, expected, key: undefined, requestId: 'r', traceparent: 't' })) })
const adding = (n: number) => message(n, 'addBook', uuid(n, 7), emma)

/** Opens partition 0 as gateways do, on a topic of 1000 messages that has the id which `topicId` tells. */
async function partitions (t: Test, topicId: () => string) {
  const settings = await stores(t)
  const { db, events } = database(t, settings)
  await migrate(db, modules)
  const topic = `${settings.EVENTS_TOPIC}.commands`
  const admin = { topicId: async () => topicId(), fetchTopicOffsets: async () => [{ partition: 0, low: '0', high: '1000', offset: '1000' }] } as never
  const queueable = new Map(Object.entries(books.commands).map(([name, command]) => [`books.${name}`, { command, validate: compiler(books.formats)(command.input) }]))
  const errors: string[] = []
  const open = async (own: Partial<Outcomes> = {}) => {
    const pool = connect(settings.POSTGRES_URL, 4)
    t.teardown(async () => await pool.destroy())
    const log = { warn () {}, error: (_: object, text: string) => errors.push(text) } as never
    const [track] = await openIn({ topic, admin, executor: makeExecutor(pool, new Registry()), outcomes: { ...makeOutcomes(pool, topic, ''), ...own }, waiters: { tell () {}, async wait () {} }, commands: queueable, log, count () {}, junk () {} })(0)
    return track!
  }
  return { open, events, errors, db }
}

t.test('two gateways that both believe that they have a partition do each of its commands once', async t => {
  const { open, events } = await partitions(t, () => 'one')
  const messages = Array.from({ length: 200 }, (_, n) => adding(n))
  const both = await Promise.all([open(), open()])
  await Promise.all(both.map(async track => await track.work(messages)))
  await (await open()).work(messages) // as after a crash before the checkpoint
  t.equal((await events()).length, 200)
  t.equal(new Set((await events()).map(({ id }) => id)).size, 200)
  t.equal((await open()).next, 200, 'and the next begins behind them')
})

t.test('what was refused stays refused: begun again after a crash, it is not done after what came later', async t => {
  const { open, events, db } = await partitions(t, () => 'one')
  const [x, y] = [uuid(1, 7), uuid(2, 7)]
  const isbn = '9780141439587'
  await (await open()).work([message(0, 'addBook', x, emma), message(1, 'addBook', y, { ...emma, isbn })])
  const crashing = await open({ keep: async () => { throw new Error('killed before the checkpoint') } })
  const some = [
    message(2, 'reviseBook', x, { isbn }), // another book has it
    message(3, 'reviseBook', x, { price: 3 }, [2]), // it is at version 1
    message(4, 'reviseBook', x, { price: '4' }), // of a gateway with another schema
    message(5, 'archiveBook', x, {}), // of a gateway that knows more
    message(6, 'reviseBook', x, { price: 6 })
  ]
  await t.rejects(crashing.work(some), { message: /killed/ })
  await (await open()).work([message(7, 'withdrawBook', y, {})]) // and the ISBN is free
  await (await open()).work(some)
  t.same((await events()).filter(({ id }) => id === x).map(({ version, value }) => [version, value.data.price]), [[1, undefined], [2, 6]])
  const { rows } = await sql<{ problem: any }>`select problem from queued_commands where problem is not null order by id`.execute(db)
  t.match(rows.map(({ problem }) => problem.code), ['BOOKS_ISBN_TAKEN', 'VERSION_MISMATCH', 'INVALID_INPUT', 'COMMAND_UNKNOWN'])
})

t.test('what was read of a topic that somebody has made anew meanwhile is not done, but read again from its beginning', async t => {
  let topicId = 'one'
  const { open, events, errors } = await partitions(t, () => topicId)
  const track = await open()
  await track.work([adding(0), adding(1)])
  topicId = 'another'
  t.ok(await track.work([adding(2)]).catch((error: unknown) => error instanceof Outdated), 'the partition is begun again')
  t.equal((await events()).length, 2)
  t.equal((await open()).next, 0)
  t.equal((await open()).next, 0)
  t.match(errors, [/made anew/], 'it is told once')
  t.equal(errors.length, 1)
})

for (const running of [false, true]) {
  t.test(`a topic that was made anew and is longer than the one before is begun at its beginning, ${running ? 'also at once' : 'when a gateway comes'}`, async t => {
    const settings = await stores(t)
    const topic = `${settings.EVENTS_TOPIC}.commands`
    const before = await gateway(t, settings)
    const { db, events } = database(t, settings)
    const { body: { id } } = await before.queue('POST', '/books', emma) as { body: { id: string } }
    for (let price = 1; price <= 3; price++) await before.outcome(await before.queue('PATCH', `/books/${id}`, { price }))
    if (!running) await before.app.close()
    const admin = kafkaFor(settings).admin()
    await admin.connect()
    t.teardown(async () => await admin.disconnect())
    const topicId = await topicIdOf(admin, topic)
    await admin.deleteTopics({ topics: [topic] })
    await until(async () => {
      await ensureTopic(admin, topic)
      return await topicIdOf(admin, topic) !== topicId
    }, 'the topic to be made anew')
    const put = await producerFor(t, settings)
    const prices = Array.from({ length: 20 }, (_, n) => n + 4)
    await put(id, ...prices.map(price => writeCommand('books.reviseBook', uuid(price), { command: books.commands['reviseBook']!, id, input: { price }, bytes: 1, expected: undefined, key: undefined, requestId: 'r', traceparent: 't' })))
    const { outcome } = running ? before : await gateway(t, settings)
    const first = { headers: new Headers({ location: `/commands/${uuid(4)}.${partitionOf(id, 6)}.0` }) }
    t.match(await outcome(first), { status: 'succeeded', result: { version: 5 } }, 'it waits, although the one before was done so far')
    await until(async () => (await events()).length === 24, 'all')
    t.same((await events()).map(({ value }) => value.data.price).slice(1), [1, 2, 3, ...prices])
    const now = await topicIdOf(admin, topic)
    await until(async () => {
      const { rows } = await sql<{ topicId: string }>`select distinct topic_id from command_checkpoints`.execute(db)
      return rows.length === 1 && rows[0]!.topicId === now
    }, 'the checkpoint')
  })
}

t.test('more than may wait is refused with 503, and commands that do not wait are not', async t => {
  const settings = await stores(t)
  const { send, queue } = await gateway(t, settings, { queue: { topic: settings.EVENTS_TOPIC, queuedMax: 3 } })
  const { db } = database(t, settings)
  const { body: { id } } = await until(async () => {
    const answer = await send('POST', '/books', emma)
    return answer.status === 201 && answer
  })
  const held = Promise.withResolvers<void>()
  const locking = Promise.withResolvers<void>()
  const lock = db.transaction().execute(async tx => {
    await sql`select id from books where id = ${id} for update`.execute(tx)
    locking.resolve()
    await held.promise
  })
  await locking.promise
  for (let price = 1; price <= 3; price++) await queue('PATCH', `/books/${id}`, { price })
  const { status, headers, body } = await send('PATCH', `/books/${id}`, { price: 4 }, byQueue)
  t.match({ status, body }, { status: 503, body: { code: 'OVERLOADED' } })
  t.equal(headers.get('retry-after'), '1')
  t.equal((await send('POST', '/books', emma)).status, 201)
  held.resolve()
  await lock
  await queue('PATCH', `/books/${id}`, { price: 5 })
})

t.test('without Kafka, only the queue is refused', async t => {
  const settings = { ...await stores(t), KAFKA_BROKERS: '127.0.0.1:1' }
  const { url, send } = await gateway(t, settings)
  await until(async () => (await fetch(`${url}/health/ready`)).ok, 'the gateway to be ready')
  t.match(await send('POST', '/books', emma, byQueue), { status: 503, body: { code: 'UNAVAILABLE', detail: /Kafka/ } })
  t.equal((await send('POST', '/books', emma)).status, 201)
  // It may well wait there: a gateway that has just begun has no other way to know.
  t.match(await send('GET', '/commands/019a0000-0000-7000-8000-000000000000.0.0'), { status: 503, body: { code: 'UNAVAILABLE' } }, 'nobody says that a command is not known')
})

t.test('while PostgreSQL is away, commands are accepted; then they are done, once and in order, also by another gateway', async t => {
  const own = await servers(t)
  const settings = await stores(t, own.dir)
  const first = await gateway(t, settings)
  const { body: { id } } = await first.queue('POST', '/books', emma)
  await own.stop('postgres')
  const waiting = []
  for (let price = 1; price <= 40; price++) waiting.push(await first.queue('PATCH', `/books/${id}`, { price }))
  t.match(await first.send('GET', waiting[0]!.headers.get('location')!), { status: 503, body: { code: 'UNAVAILABLE' } })
  await first.app.close()
  const second = await gateway(t, settings)
  for (let price = 41; price <= 60; price++) waiting.push(await second.queue('PATCH', `/books/${id}`, { price }))
  await own.start()
  const outcomes = await Promise.all(waiting.map(second.outcome))
  t.same(outcomes.map(({ status }) => status), outcomes.map(() => 'succeeded'))
  t.same(outcomes.map(({ result }) => result.version), outcomes.map((_, n) => n + 2))
  const { events } = database(t, settings)
  t.same((await events()).map(({ value }) => value.data.price), [undefined, ...outcomes.map((_, n) => n + 1)])
})
