/** The group commit on the real PostgreSQL: a group does what its commands do alone, in order; gateways beside each other neither block nor contradict each other. */
import assert from 'node:assert/strict'
import { setImmediate, setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import fc from 'fast-check'
import { sql, type RawBuilder } from 'kysely'
import { Registry } from 'prom-client'
import type { BoundCommand } from '@bifold/cqrs'
import { modules } from '@bifold/modules'
import { books } from '@bifold/modules/books'
import openapi from '@bifold/openapi'
import postgres, { connect, migrate, type Db } from '@bifold/postgres'
import { build } from '@bifold/service'
import { stores, until } from '@bifold/test'
import { digestOf } from './headers.ts'
import commands from './index.ts'
import { limits, makeExecutor, type Executor, type Limits } from './executor.ts'
import type { Answer, Request } from './request.ts'

/** A command as it is drawn. Books count the adds of all lists: a number may be of a book that is not there yet, or never will be. */
type Step = { readonly expected?: number[] | undefined, readonly key?: string | undefined } & (
  | { readonly does: 'add', readonly isbn?: string | undefined }
  | { readonly does: 'revise', readonly book: number, readonly changes: { isbn?: string | null, price?: number } }
  | { readonly does: 'withdraw', readonly book: number }
)

const { addBook, reviseBook, withdrawBook } = books.commands as Record<'addBook' | 'reviseBook' | 'withdrawBook', BoundCommand>
const isbns = ['9780000000001', '9780000000002', '9780000000003']
const [x, y] = isbns as [string, string]
const answerMs = 5000 // for all commands of a run, on a busy machine; they take a tenth of a second

// Scattered, so that the order in which rows are saved is not that of the commands.
const id = (book: number, lane = 0) => `00000000-000${lane}-7000-8000-0000000000${((book * 37 + 11) % 64).toString().padStart(2, '0')}`

const add = (isbn?: string, more: object = {}): Step => ({ does: 'add', isbn, ...more })
const revise = (book: number, isbn: string | null, more: object = {}): Step => ({ does: 'revise', book, changes: { isbn }, ...more })
const withdraw = (book: number): Step => ({ does: 'withdraw', book })

const anyStep: fc.Arbitrary<Step> = fc.tuple(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ does: fc.constant('add' as const), isbn: fc.constantFrom(undefined, ...isbns) }) },
    { weight: 5, arbitrary: fc.record({ does: fc.constant('revise' as const), book: fc.nat({ max: 4 }), changes: fc.record({ isbn: fc.constantFrom(null, ...isbns), price: fc.nat({ max: 2 }) }, { requiredKeys: [] }) }) },
    { weight: 3, arbitrary: fc.record({ does: fc.constant('withdraw' as const), book: fc.nat({ max: 4 }) }) }
  ),
  fc.option(fc.array(fc.nat({ max: 3 }), { minLength: 1, maxLength: 2 }), { nil: undefined, freq: 4 }),
  fc.option(fc.constantFrom('one', 'two'), { nil: undefined, freq: 4 })
).map(([step, expected, key]) => ({ ...step, key, expected: step.does === 'add' ? undefined : expected }))

/** The requests as the gateway would make them. Lanes have nothing in common, or else ISBNs, keys and the first `shared` books. */
function requestsOf (steps: readonly Step[], lane = 0, shared?: number): Request[] {
  const world = shared === undefined ? lane : 0
  const own = (isbn: string) => isbn.replace('978000', `97800${world}`)
  const withOwn = <Fields extends { isbn?: string | null | undefined }>({ isbn, ...fields }: Fields) => ({ ...fields, ...isbn === undefined ? {} : { isbn: isbn === null ? null : own(isbn) } })
  let added = shared ?? 0
  return steps.map((step, index) => {
    const book = step.does === 'add' ? added++ : step.book
    const at = id(book, book < (shared ?? 0) ? 0 : lane)
    const [command, input] = step.does === 'add'
      ? [addBook, withOwn({ title: 'Emma', authors: ['Jane Austen'], isbn: step.isbn })]
      : step.does === 'revise' ? [reviseBook, withOwn(step.changes)] : [withdrawBook, {}]
    const key = step.key === undefined ? undefined : `${step.key} ${world}`
    const fingerprint = digestOf(JSON.stringify([command.url, command.creates ? '' : at, input, step.expected]))
    return { command, id: at, input, bytes: 0, expected: step.expected, key: key === undefined ? undefined : { value: key, digests: () => ({ digest: digestOf(key), fingerprint }) }, requestId: `${lane}/${index}`, traceparent: '' }
  })
}

type Outcome = Answer | { readonly code: string | undefined, readonly message: string }

const isAnswer = (outcome: Outcome): outcome is Answer => 'version' in outcome

const outcomeOf = async (executor: Executor, request: Request): Promise<Outcome> => await executor.execute(request).catch(({ code, message }) => ({ code, message }))

async function alone (db: Db, requests: readonly Request[]): Promise<Outcome[]> {
  const executor = makeExecutor(db, new Registry())
  const outcomes: Outcome[] = []
  for (const request of requests) outcomes.push(await outcomeOf(executor, request))
  return outcomes
}

/** Asks for all at once: what comes in with one turn of the event loop is taken together. */
async function together (db: Db, requests: readonly Request[], { groupsMax, groupSizeMax }: Pick<Limits, 'groupsMax' | 'groupSizeMax'>): Promise<Outcome[]> {
  const metrics = new Registry()
  const executor = makeExecutor(db, metrics, { ...limits, groupsMax, groupSizeMax })
  const outcomes = await Promise.all(requests.map(async request => await outcomeOf(executor, request)))
  const { count, sum } = await groupSizes(metrics)
  assert.deepEqual({ count, sum }, { count: Math.ceil(requests.length / groupSizeMax), sum: requests.length })
  return outcomes
}

async function groupSizes (metrics: Registry) {
  const { values } = await metrics.getSingleMetric('bifold_commit_group_size')!.get()
  const value = (name: string) => (values as { metricName?: string, value: number }[]).find(({ metricName }) => metricName === `bifold_commit_group_size_${name}`)?.value
  return { count: value('count') ?? 0, sum: value('sum') ?? 0 }
}

interface Event { readonly id: string, readonly version: number, readonly type: string, readonly value: { data: { isbn?: string } }, readonly requestId: string }
interface Row { readonly id: string, readonly version: number, readonly withdrawn: boolean, readonly isbn: string | null }
interface Key extends Answer { readonly digest: string }

/** All that is stored, without times; the events in their order. */
async function stored (db: Db) {
  const { rows } = await sql<Row>`select * from books order by id`.execute(db)
  const { rows: events } = await sql<Event>`select aggregate, aggregate_id as id, version, type, value, request_id from events order by position`.execute(db)
  const { rows: keys } = await sql<Key>`select replace(digest::text, '-', '') as digest, replace(fingerprint::text, '-', '') as fingerprint, id, version from idempotency_keys order by digest`.execute(db)
  return { rows, events, keys }
}

async function empty (db: Db) {
  await sql`delete from books`.execute(db)
  await sql`delete from events`.execute(db)
  await sql`delete from idempotency_keys`.execute(db)
}

/** A database with all tables, for this test only. */
async function database (t: Test) {
  const { POSTGRES_URL: url } = await stores(t)
  const pool = (max: number) => {
    const db = connect(url, max)
    t.teardown(async () => await db.destroy())
    return db
  }
  const db = pool(4)
  await migrate(db, modules)
  return { db, pool, url }
}

/** What became of the requests after `before`, and what is stored then. */
async function after (db: Db, before: readonly Request[], run: () => Promise<Outcome[]>) {
  await empty(db)
  await alone(db, before)
  const outcomes = await run()
  return { outcomes, ...await stored(db) }
}

/** The number of transactions that wrote events of these requests. */
async function transactions (db: Db, requests: readonly Request[]): Promise<number> {
  const { rows: [row] } = await sql<{ count: number }>`select count(distinct xmin::text) from events where request_id = any(${requests.map(({ requestId }) => requestId)})`.execute(db)
  return row!.count
}

t.test('a group does what its commands do one by one', async t => {
  const { db } = await database(t)
  const runs = 100
  let inOne = 0
  await fc.assert(fc.asyncProperty(fc.array(anyStep, { minLength: 2, maxLength: 12 }), fc.nat({ max: 3 }), async (steps, first) => {
    const all = requestsOf(steps)
    const [before, rest] = [all.slice(0, first), all.slice(first)]
    const expected = await after(db, before, async () => await alone(db, rest))
    assert.deepEqual(await after(db, before, async () => await together(db, rest, { groupsMax: 1, groupSizeMax: 3 })), expected)
    assert.deepEqual(await after(db, before, async () => await together(db, rest, { groupsMax: 1, groupSizeMax: 500 })), expected)
    if (await transactions(db, rest) === 1) inOne++
  }), { numRuns: runs })
  t.ok(inOne > runs / 10, `${inOne} of ${runs} were done in one transaction, not one by one after a conflict`)
})

t.test('so do two groups at once, where they share nothing', async t => {
  const { db } = await database(t)
  const lane = fc.array(anyStep, { minLength: 6, maxLength: 6 })
  await fc.assert(fc.asyncProperty(lane, lane, async (one, two) => {
    const [a, b] = [requestsOf(one, 0), requestsOf(two, 1)]
    const waves = [[...a.slice(0, 3), ...b.slice(0, 3)], [...a.slice(3), ...b.slice(3)]]
    const expected = await after(db, [], async () => await alone(db, waves.flat()))
    const found = await after(db, [], async () => [...await together(db, waves[0]!, { groupsMax: 2, groupSizeMax: 3 }), ...await together(db, waves[1]!, { groupsMax: 2, groupSizeMax: 3 })])
    // Which of the two is first does not matter: within each, the order holds.
    const byLane = ({ events, ...rest }: typeof found) => ({ ...rest, events: events.toSorted((a, b) => Number(a.requestId[0]) - Number(b.requestId[0])) })
    assert.deepEqual(byLane(found), byLane(expected))
  }), { numRuns: 30 })
})

// Between the commands somebody holds what another wants, although in the end nobody does; or the other way round.
const between: Record<string, { before?: Step[], group: Step[], refused: number[] }> = {
  'taken by one that is withdrawn later': { group: [add(x), add(x), withdraw(0)], refused: [1] },
  'taken by one that is revised later': { group: [add(x), add(x), revise(0, y)], refused: [1] },
  'taken from outside the group, and given up again': { before: [add(x), add()], group: [revise(1, x), revise(1, y)], refused: [0] },
  'taken from outside the group by one that is withdrawn': { before: [add(x)], group: [add(x), withdraw(1)], refused: [0, 1] },
  'freed and taken': { before: [add(x)], group: [withdraw(0), add(x)], refused: [] },
  'freed, taken, freed and taken': { before: [add(x)], group: [withdraw(0), add(x), revise(1, null), add(x)], refused: [] },
  swapped: { before: [add(x), add(y)], group: [revise(0, null), revise(1, x), revise(0, y)], refused: [] },
  'left and taken back': { before: [add(x)], group: [revise(0, y), add(x), revise(0, x), revise(1, null), revise(0, x)], refused: [2] },
  'moved on by one': { group: [add(x), revise(0, y), add(x)], refused: [] },
  'refused with a key, which stays free': { group: [add(x), add(x, { key: 'one' }), withdraw(0), add(x, { key: 'one' })], refused: [1] }
}

t.test('an ISBN that changes hands within a group', async t => {
  const { db } = await database(t)
  for (const [name, { before = [], group, refused }] of Object.entries(between)) {
    const all = requestsOf([...before, ...group])
    const [first, rest] = [all.slice(0, before.length), all.slice(before.length)]
    const expected = await after(db, first, async () => await alone(db, rest))
    t.same(expected.outcomes.flatMap((outcome, index) => isAnswer(outcome) ? [] : [index]), refused, `${name}: alone`)
    t.same(await after(db, first, async () => await together(db, rest, { groupsMax: 1, groupSizeMax: 500 })), expected, `${name}: as a group`)
    if (refused.length === 0) t.equal(await transactions(db, rest), 1, `${name}: in one transaction`)
  }
})

/** Whether answers, events and rows tell one story: no gap in the versions, no ISBN held twice, and each acceptance with its event. */
function consistent (requests: readonly Request[], outcomes: readonly Outcome[], { rows, events, keys }: Awaited<ReturnType<typeof stored>>) {
  const known = new Set(['BOOKS_NOT_FOUND', 'BOOKS_WITHDRAWN', 'BOOKS_ISBN_TAKEN', 'VERSION_MISMATCH', 'IDEMPOTENCY_KEY_REUSED'])
  const last = new Map<string, Event>()
  const holders = new Map<string, string>()
  for (const event of events) {
    assert.equal(event.version, (last.get(event.id)?.version ?? 0) + 1, `${event.id}: no gap and no other order`)
    const held = last.get(event.id)?.value.data.isbn
    if (held !== undefined) holders.delete(held)
    last.set(event.id, event)
    const { isbn } = event.value.data
    if (isbn === undefined || event.type === 'BookWithdrawn') continue
    assert.equal(holders.get(isbn), undefined, `${isbn} is held by one at a time`)
    holders.set(isbn, event.id)
  }
  assert.deepEqual(rows.map(({ id, version, withdrawn, isbn }) => ({ id, version, withdrawn, isbn })),
    [...last.values()].map(({ id, version, type, value: { data } }) => ({ id, version, withdrawn: type === 'BookWithdrawn', isbn: data.isbn ?? null })).sort((a, b) => a.id < b.id ? -1 : 1))
  requests.forEach(({ requestId, command, key }, index) => {
    const outcome = outcomes[index]!
    const own = events.filter(event => event.requestId === requestId).map(({ id, version }) => ({ id, version }))
    if (!isAnswer(outcome)) {
      assert.ok(known.has(outcome.code ?? ''), `${outcome.code}: ${outcome.message}`)
      assert.deepEqual(own, [], 'what was refused has no event')
      return
    }
    const { replayed = false, ...answer } = outcome
    if (replayed || own.length === 0) assert.ok(replayed || command === reviseBook, 'what was accepted has an event')
    else assert.deepEqual(own, [answer])
    assert.ok(!replayed || own.length === 0, 'what was answered before is not done again')
    const digests = key?.digests()
    if (digests !== undefined) assert.deepEqual(keys.find(({ digest }) => digest === digests.digest), { ...digests, ...answer })
  })
}

async function inTime<T> (work: Promise<T>): Promise<T> {
  const done = new AbortController()
  const late = setTimeout(answerMs, undefined, { signal: done.signal }).then(() => { throw new Error(`not all is answered within ${answerMs} ms`) })
  try {
    return await Promise.race([work, late])
  } finally {
    done.abort()
  }
}

/** For the connections that are made from now on. */
async function findDeadlocksAfter (ms: number, db: Db, url: string) {
  await sql`alter database ${sql.id(new URL(url).pathname.slice(1))} set deadlock_timeout = ${sql.lit(ms)}`.execute(db)
}

t.test('several gateways on the same books: all answer, and the answers, events and rows tell one story', async t => {
  const { db, pool, url } = await database(t)
  await findDeadlocksAfter(20, db, url)
  const dbs = [pool(2), pool(2), pool(2)]
  const shared = 3
  const lists = fc.array(fc.array(anyStep, { minLength: 4, maxLength: 12 }), { minLength: 1, maxLength: dbs.length })
  await fc.assert(fc.asyncProperty(lists, async lists => {
    await empty(db)
    await alone(db, requestsOf([add(x), add(y), add()]).map(request => ({ ...request, requestId: 'before' })))
    const requests = lists.map((steps, lane) => requestsOf(steps, lane, shared))
    const work = requests.map(async (requests, lane) => {
      const executor = makeExecutor(dbs[lane]!, new Registry(), { ...limits, groupsMax: 2, groupSizeMax: 4 })
      return await Promise.all(requests.map(async request => await outcomeOf(executor, request)))
    })
    const outcomes = await inTime(Promise.all(work))
    consistent(requests.flat(), outcomes.flat(), await stored(db))
  }), { numRuns: 80 })
})

/** Does something in a transaction that stays open until `letGo`, and is then rolled back. */
async function hold (t: Test, db: Db, what: RawBuilder<unknown>) {
  const done = Promise.withResolvers<void>()
  const held = Promise.withResolvers<void>()
  const holder = db.connection().execute(async connection => {
    await sql`begin`.execute(connection)
    await what.execute(connection)
    held.resolve()
    await done.promise
    await sql`rollback`.execute(connection)
  })
  const letGo = async () => {
    done.resolve()
    await holder
  }
  t.teardown(letGo)
  await Promise.race([held.promise, holder])
  return letGo
}

async function waiting (db: Db, count: number) {
  await until(async () => (await sql`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`.execute(db)).rows.length === count, `${count} to wait for a lock`)
}

t.test('two gateways that want the same books, or ISBNs, in opposite orders do not deadlock', async t => {
  const { db, pool, url } = await database(t)
  await findDeadlocksAfter(2 * answerMs, db, url)
  const [one, two] = [pool(1), pool(1)]
  const all = { groupsMax: 1, groupSizeMax: 500 }
  const ids = [0, 1, 2].map(book => id(book)).sort()
  const changes = ids.map(id => ({ ...requestsOf([revise(0, null)])[0]!, input: { price: 1 }, id }))
  // The ids rise, as those that a gateway makes.
  const adds = (isbns: string[], lane: number) => requestsOf(isbns.map(isbn => add(isbn)), lane, 0).map((request, index) => ({ ...request, id: `00000000-0009-7000-8000-0000000000${lane}${index}` }))
  await alone(db, requestsOf([add(), add(), add()]))
  for (const [middle, first, second, accepted] of [
    [sql`select from books where id = ${ids[1]} for update`, changes, changes.toReversed(), 6],
    [sql`insert into books (id, version, withdrawn, title, authors, isbn) values (${id(9)}, 1, false, '', '{}', ${isbns[1]})`, adds(isbns, 0), adds(isbns.toReversed(), 1), 3]
  ] as const) {
    // Whoever takes things as they come has one at each end now, and goes for the other's when the middle one is let go.
    const letGo = await hold(t, db, middle)
    const work = Promise.all([together(one, first, all), together(two, second, all)])
    await waiting(db, 2)
    await letGo()
    t.equal((await inTime(work)).flat().filter(isAnswer).length, accepted)
  }
})

t.test('one key at one moment through several gateways: one does it, and the others give its answer', async t => {
  const { db, pool } = await database(t)
  const executors = Array.from({ length: 4 }, () => makeExecutor(pool(2), new Registry()))
  const key = 'one'
  for (const [before, step] of [[[], add(x, { key })], [[add()], revise(0, x, { key, expected: [1] })], [[add()], { ...withdraw(0), key }]] as const) {
    for (let time = 0; time < 10; time++) {
      await empty(db)
      await alone(db, requestsOf(before))
      const outcomes = await Promise.all(executors.map(async (executor, lane) => await outcomeOf(executor, requestsOf([step], lane, before.length)[0]!)))
      const answer = outcomes.find(outcome => isAnswer(outcome) && !outcome.replayed)
      t.same(outcomes, outcomes.map(outcome => outcome === answer ? answer : { ...answer, replayed: true }), step.does)
    }
  }
})

/** Holds every commit of an event back until it is opened: by a constraint trigger, which PostgreSQL runs at the commit. */
async function gate (t: Test, db: Db) {
  await sql`create function pass_gate() returns trigger language plpgsql as 'begin perform pg_advisory_xact_lock_shared(1); return null; end'`.execute(db)
  await sql`create constraint trigger gate after insert on events deferrable initially deferred for each row execute function pass_gate()`.execute(db)
  return await hold(t, db, sql`select pg_advisory_xact_lock(1)`)
}

t.test('a key is found before what the first request took, also when a group is done one by one', async t => {
  const { db, pool } = await database(t)
  await alone(db, requestsOf([add(x)]))
  const open = await gate(t, db)
  const once = (lane: number, ...more: Step[]) => requestsOf([add(y, { key: 'one' }), ...more], lane, 1)
  const first = outcomeOf(makeExecutor(pool(2), new Registry()), once(1)[0]!)
  await waiting(db, 1)
  const again = together(pool(2), once(2, add(x)), { groupsMax: 1, groupSizeMax: 500 })
  await waiting(db, 2)
  await open()
  t.match(await again, [{ ...await first, replayed: true }, { code: 'BOOKS_ISBN_TAKEN' }])
})

t.test('a lone command waits for nobody; those that come meanwhile go together', async t => {
  const { db } = await database(t)
  const metrics = new Registry()
  const executor = makeExecutor(db, metrics, { ...limits, groupsMax: 1 })
  const [first, ...others] = requestsOf([add(), add(), add(), add()])
  const work = [executor.execute(first!)]
  await setImmediate()
  t.same(await groupSizes(metrics), { count: 1, sum: 1 }, 'it is under way within the turn of the event loop')
  work.push(...others.map(async request => await executor.execute(request)))
  await Promise.all(work)
  t.same(await groupSizes(metrics), { count: 2, sum: 4 })
})

t.test('no answer before the commit, and what is answered is there for everyone', async t => {
  const { db, pool } = await database(t)
  const open = await gate(t, db)
  const executor = makeExecutor(pool(2), new Registry())
  let answers = 0
  const seen = requestsOf([add(x), add(y, { key: 'one' })]).map(async request => {
    const { id } = await executor.execute(request)
    answers++
    return (await sql`select from books join events on aggregate_id = id where id = ${id}`.execute(db)).rows.length
  })
  await waiting(db, 1)
  t.equal(answers, 0)
  t.same((await stored(db)).rows, [])
  await open()
  t.same(await Promise.all(seen), [1, 1])
})

const bodyBytes = Buffer.byteLength(JSON.stringify({ title: 'Emma', authors: ['Jane Austen'] }))
for (const [unit, bound] of Object.entries({ commands: { queueMax: 3 }, bytes: { queueBytesMax: 3 * bodyBytes } })) {
  t.test(`the queue is bounded in ${unit}: what is beyond is refused with 503 and Retry-After, and only that`, async t => {
    const { db, url } = await database(t)
    const open = await gate(t, db)
    const app = await build(async app => {
      await app.register(openapi, { title: 'Bifold commands', description: 'With a short queue.' })
      await app.register(postgres, { url, modules })
      await app.register(commands, { modules, limits: { groupSizeMax: 2, groupsMax: 1, ...bound } })
    }, {}, { name: 'gateway', logLevel: 'silent' })
    t.teardown(async () => await app.close())
    const post = async () => await app.inject({ method: 'POST', url: '/books', payload: { title: 'Emma', authors: ['Jane Austen'] } })
    const first = post()
    await waiting(db, 1)
    const others = Array.from({ length: 5 }, post)
    const refused = await inTime(Promise.race(others))
    t.match({ status: refused.statusCode, headers: refused.headers, body: refused.json() }, { status: 503, headers: { 'retry-after': '1' }, body: { code: 'OVERLOADED' } })
    await open()
    const statuses = (await Promise.all([first, ...others])).map(({ statusCode }) => statusCode)
    t.same(statuses.sort(), [201, 201, 201, 201, 503, 503])
    t.match((await app.inject('/metrics')).body, /bifold_commands_total\{command="addBook",outcome="OVERLOADED"\} 2/)
    t.equal((await post()).statusCode, 201, 'and then there is room again')
  })
}

t.test('a group is bounded in bytes too, and a command larger than that is committed alone', async t => {
  const { url } = await database(t)
  const app = await build(async app => {
    await app.register(openapi, { title: 'Bifold commands', description: 'With small groups.' })
    await app.register(postgres, { url, modules })
    await app.register(commands, { modules, limits: { groupBytesMax: 2 * bodyBytes } })
  }, {}, { name: 'gateway', logLevel: 'silent' })
  t.teardown(async () => await app.close())
  const sizes = [0, 0, 0, 0, 500]
  await Promise.all(sizes.map(async more => await app.inject({ method: 'POST', url: '/books', payload: { title: 'Emma', authors: ['Jane Austen'], ...more > 0 && { description: 'x'.repeat(more) } } })))
  t.match((await app.inject('/metrics')).body, /bifold_commit_group_size_sum 5\nbifold_commit_group_size_count 3/)
})

t.test('an event that Kafka would not take is refused, and only that', async t => {
  const { db, pool } = await database(t)
  const [small, large, beside] = requestsOf([add(x), add(), add(y)])
  // Beyond what HTTP lets through: a record may grow by many commands, too.
  const grown = { ...large!, input: { ...large!.input as object, description: 'é'.repeat(400_000) } }
  t.match(await together(pool(2), [small!, grown, beside!], limits), [{ version: 1 }, { code: 'TOO_LARGE' }, { version: 1 }])
  t.equal((await stored(db)).events.length, 2)
})
