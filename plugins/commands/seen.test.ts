/** Commands over several aggregates on the real PostgreSQL: what they see is locked, what they record is one transaction, and gateways beside each other neither block nor contradict each other. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import fc from 'fast-check'
import { sql } from 'kysely'
import { Registry } from 'prom-client'
import { Type } from 'typebox'
import { command, on, one, readTokens, type AnyAggregate, type BoundCommand } from '@bifold/cqrs'
import { modules } from '@bifold/modules'
import { books } from '@bifold/modules/books'
import { lending } from '@bifold/modules/lending'
import openapi from '@bifold/openapi'
import postgres, { connect, migrate, type Db } from '@bifold/postgres'
import { build } from '@bifold/service'
import { stores } from '@bifold/test'
import commands from './index.ts'
import { limits, makeExecutor, type Executor } from './executor.ts'
import type { Answer, Request } from './request.ts'

const { addBook, withdrawBook } = books.commands as Record<'addBook' | 'withdrawBook', BoundCommand>
const { joinMember, suspendMember, reinstateMember, borrowBook, renewLoan, recallLoan, returnBook } = lending.commands as
  Record<'joinMember' | 'suspendMember' | 'reinstateMember' | 'borrowBook' | 'renewLoan' | 'recallLoan' | 'returnBook', BoundCommand>
const [member, loan] = lending.aggregates as [AnyAggregate, AnyAggregate]
const answerMs = 5000 // for all commands of a run, on a busy machine; a deadlock is left alone for longer

const id = (kind: 'a' | 'b' | 'c', n: number) => `019a0000-0000-7000-8000-${kind}${n.toString(16).padStart(11, '0')}`
const memberId = (n: number) => id('a', n)
const bookId = (n: number) => id('b', n)
const loanId = (n: number) => id('c', n)

let requests = 0
const request = (command: BoundCommand, id: string, input: object = {}): Request =>
  ({ command, id, input, bytes: 0, expected: undefined, key: undefined, requestId: `${requests++}`, traceparent: '' })
const join = (n: number) => request(joinMember, memberId(n), { name: `Member ${n}` })
const add = (n: number) => request(addBook, bookId(n), { title: `Book ${n}`, authors: ['Jane Austen'] })
const borrow = (n: number, member: number, book: number) => request(borrowBook, loanId(n), { memberId: memberId(member), bookId: bookId(book) })
const up = (count: number) => Array.from({ length: count }, (_, n) => n)

type Outcome = Answer | { readonly code: string | undefined, readonly message: string }
const isAnswer = (outcome: Outcome): outcome is Answer => 'version' in outcome
const outcomeOf = async (executor: Executor, request: Request): Promise<Outcome> => await executor.execute(request).catch(({ code, message }) => ({ code, message }))
const codes = (outcomes: readonly Outcome[]) => outcomes.map(outcome => isAnswer(outcome) ? 'done' : outcome.code ?? outcome.message)

async function alone (db: Db, requests: readonly Request[]): Promise<Outcome[]> {
  const executor = makeExecutor(db, new Registry())
  const outcomes: Outcome[] = []
  for (const request of requests) outcomes.push(await outcomeOf(executor, request))
  return outcomes
}

const together = async (db: Db, requests: readonly Request[], own = {}): Promise<Outcome[]> => {
  const executor = makeExecutor(db, new Registry(), { ...limits, groupsMax: 1, ...own })
  return await inTime(Promise.all(requests.map(async request => await outcomeOf(executor, request))))
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

/** A database for this test only, in which a deadlock is found too late for an answer in time. */
async function database (t: Test) {
  const { POSTGRES_URL: url } = await stores(t)
  const pool = (max: number) => {
    const db = connect(url, max)
    t.teardown(async () => await db.destroy())
    return db
  }
  const first = pool(1)
  await migrate(first, modules)
  await sql`alter database ${sql.id(new URL(url).pathname.slice(1))} set deadlock_timeout = ${sql.lit(2 * answerMs)}`.execute(first)
  return { db: pool(4), pool, url }
}

interface Event { readonly aggregate: string, readonly id: string, readonly version: number, readonly type: string, readonly data: object, readonly requestId: string, readonly transaction: string }

/** All that is stored, without times; the events in their order. */
async function stored (db: Db) {
  const { rows: events } = await sql<Event>`select aggregate, aggregate_id as id, version, type, value->'data' as data, request_id, xmin::text as transaction from events order by position`.execute(db)
  const [members, loans, books] = await Promise.all(['members', 'loans', 'books'].map(async name => (await sql<{ id: string, version: number }>`select * from ${sql.table(name)} order by id`.execute(db)).rows))
  return { members: members!, loans: loans!, books: books!, events }
}

async function empty (db: Db) {
  for (const name of ['loans', 'members', 'books', 'events']) await sql`delete from ${sql.table(name)}`.execute(db)
}

/** What is stored is what the events say, without a gap; no book is out twice at any time, and nobody has six. */
async function consistent (db: Db) {
  const { members, loans, books, events } = await stored(db)
  const versions = new Map<string, number>()
  const out = new Map<string, string>()
  for (const { id, type, version, data } of events) {
    assert.equal(version, (versions.get(id) ?? 0) + 1, `${type} of ${id}`)
    versions.set(id, version)
    const { bookId, loans } = data as { bookId?: string, loans?: string[] }
    if (type === 'LoanOpened') assert.ok(!out.has(bookId!), `${bookId} is out already`)
    if (type === 'LoanOpened') out.set(bookId!, id)
    if (type === 'LoanReturned') out.delete(bookId!)
    if (type === 'BookWithdrawn') out.set(id, 'withdrawn: nobody borrows it any more')
    if (loans !== undefined) assert.ok(loans.length <= 5)
  }
  for (const { id, version } of [...members, ...loans, ...books]) assert.equal(version, versions.get(id))
  const open = (loans as unknown as { id: string, memberId: string, returnedOn: unknown }[]).filter(({ returnedOn }) => returnedOn === null)
  for (const { id, loans } of members as unknown as { id: string, loans: string[] }[]) assert.deepEqual(loans.toSorted(), open.filter(({ memberId }) => memberId === id).map(({ id }) => id).sort())
}

t.test('a command that records on two aggregates is one transaction with consecutive events, and leaves what it only sees as it is', async t => {
  const { db } = await database(t)
  await alone(db, [join(0), add(0)])
  t.same(await together(db, [borrow(0, 0, 0), add(1)]), [
    { id: loanId(0), version: 1, seen: [{ aggregate: 'members', id: memberId(0), version: 2 }, { aggregate: 'books', id: bookId(0), version: 1 }] },
    { id: bookId(1), version: 1 }
  ])
  const { events, books, members } = await stored(db)
  t.match(events.slice(2), [
    { aggregate: 'loans', id: loanId(0), version: 1, type: 'LoanOpened', data: { bookId: bookId(0), memberId: memberId(0) } },
    { aggregate: 'members', id: memberId(0), version: 2, type: 'MemberBorrowed', data: { loans: [loanId(0)] }, transaction: events[2]!.transaction, requestId: events[2]!.requestId },
    { aggregate: 'books', id: bookId(1) }
  ])
  t.match(books, [{ version: 1 }, { version: 1 }])
  t.match(members, [{ version: 2, loans: [loanId(0)] }])
})

t.test('later commands of a group see the changes of earlier ones, on all aggregates', async t => {
  const { db } = await database(t)
  const group = () => [
    join(0), add(0), borrow(0, 0, 0), borrow(1, 0, 0), request(returnBook, loanId(0)), borrow(2, 0, 0), request(recallLoan, loanId(2)), request(renewLoan, loanId(2)),
    add(1), request(withdrawBook, bookId(1)), borrow(3, 0, 1), add(2), request(suspendMember, memberId(0)), borrow(4, 0, 2), request(reinstateMember, memberId(0)), borrow(5, 0, 2)
  ]
  const expected = ['done', 'done', 'done', 'LENDING_BOOK_IS_OUT', 'done', 'done', 'done', 'LENDING_LOAN_RECALLED', 'done', 'done', 'LENDING_BOOK_WITHDRAWN', 'done', 'done', 'LENDING_MEMBER_SUSPENDED', 'done', 'done']
  t.same(codes(await together(db, group())), expected)
  await empty(db)
  const withoutConflict = group().filter((_, index) => index !== 3)
  t.same(codes(await together(db, withoutConflict)), expected.filter((_, index) => index !== 3))
  t.equal(new Set((await stored(db)).events.map(({ transaction }) => transaction)).size, 1, 'a member joins and borrows in one transaction: the foreign keys are looked at when all is there')
  await consistent(db)
})

const anyStep = fc.oneof(
  { weight: 6, arbitrary: fc.record({ does: fc.constant('borrow' as const), member: fc.nat({ max: 2 }), book: fc.nat({ max: 7 }) }) },
  { weight: 5, arbitrary: fc.record({ does: fc.constantFrom('return' as const, 'renew' as const, 'recall' as const), loan: fc.nat({ max: 9 }) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constantFrom('suspend' as const, 'reinstate' as const), member: fc.nat({ max: 2 }) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('withdraw' as const), book: fc.nat({ max: 7 }) }) }
)
const does = { return: returnBook, renew: renewLoan, recall: recallLoan, suspend: suspendMember, reinstate: reinstateMember }

/** Loans count the borrows of a list: one may be of a loan that is not there yet, or never will be. */
function requestsOf (steps: readonly (typeof anyStep extends fc.Arbitrary<infer Step> ? Step : never)[], lane = 0): Request[] {
  let loans = lane * 100
  return steps.map(step => {
    if (step.does === 'borrow') return borrow(loans++, step.member, step.book)
    if (step.does === 'withdraw') return request(withdrawBook, bookId(step.book))
    return 'loan' in step ? request(does[step.does], loanId(lane * 100 + step.loan)) : request(does[step.does], memberId(step.member))
  })
}

const before = () => [...up(3).map(join), ...up(7).map(add)] // the last book is of nobody

t.test('a group does what its commands do one by one', async t => {
  const { db } = await database(t)
  await fc.assert(fc.asyncProperty(fc.array(anyStep, { minLength: 2, maxLength: 20 }), async steps => {
    const run = async (how: typeof together | typeof alone) => {
      await empty(db)
      requests = 0
      await alone(db, before())
      const outcomes = await how(db, requestsOf(steps))
      const { events, ...tables } = await stored(db)
      return { outcomes, tables, events: events.map(({ transaction, ...event }) => event) }
    }
    assert.deepEqual(await run(together), await run(alone))
  }), { numRuns: 60 })
})

t.test('several gateways on the same members and books: all answer in time, and what is stored tells one story', async t => {
  const { db, pool } = await database(t)
  const dbs = [pool(2), pool(2), pool(2)]
  const known = /^(done|LENDING_.*|BOOKS_(NOT_FOUND|WITHDRAWN))$/
  await fc.assert(fc.asyncProperty(fc.array(fc.array(anyStep, { minLength: 6, maxLength: 16 }), { minLength: 2, maxLength: dbs.length }), async lists => {
    await empty(db)
    await alone(db, before())
    const outcomes = await Promise.all(lists.map(async (steps, lane) => await together(dbs[lane]!, requestsOf(steps, lane), { groupsMax: 2, groupSizeMax: 4 })))
    for (const code of codes(outcomes.flat())) assert.match(code, known)
    await consistent(db)
  }), { numRuns: 60 })
})

t.test('one book wanted through several gateways at once: exactly one gets it', async t => {
  const { db, pool } = await database(t)
  const dbs = up(3).map(() => pool(2))
  await alone(db, [...up(6).map(join), ...up(10).map(add)])
  for (const book of up(10)) {
    const outcomes = (await Promise.all(dbs.map(async (db, lane) => await together(db, [borrow(book * 10 + lane, lane, book), borrow(book * 10 + 5 + lane, lane + 3, book)])))).flat()
    t.same(codes(outcomes).sort(), ['LENDING_BOOK_IS_OUT', 'LENDING_BOOK_IS_OUT', 'LENDING_BOOK_IS_OUT', 'LENDING_BOOK_IS_OUT', 'LENDING_BOOK_IS_OUT', 'done'])
    await alone(db, (await stored(db)).loans.map(({ id }) => request(returnBook, id)))
  }
  await consistent(db)
})

t.test('the sixth loan of a member is refused, however many gateways are asked at once', async t => {
  const { db, pool } = await database(t)
  const dbs = [pool(2), pool(2)]
  await alone(db, [join(0), ...up(8).map(add)])
  const outcomes = await Promise.all(dbs.map(async (db, lane) => await together(db, up(4).map(n => borrow(lane * 4 + n, 0, lane * 4 + n)), { groupsMax: 2, groupSizeMax: 1 })))
  t.same(codes(outcomes.flat()).sort(), [...up(3).map(() => 'LENDING_TOO_MANY_LOANS'), ...up(5).map(() => 'done')])
  await consistent(db)
})

t.test('who is being suspended has borrowed before, or is refused', async t => {
  const { db, pool } = await database(t)
  const dbs = [pool(2), pool(2)] as const
  await alone(db, [...up(10).map(join), ...up(10).map(add)])
  for (const n of up(10)) await Promise.all([together(dbs[0], [borrow(n, n, n)]), together(dbs[1], [request(suspendMember, memberId(n))])])
  const { events } = await stored(db)
  for (const n of up(10)) {
    const types = events.filter(event => event.id === memberId(n)).map(({ type }) => type)
    t.match(types.join(), /^MemberJoined,(MemberBorrowed,)?MemberSuspended$/)
  }
  await consistent(db)
})

const careless = (input = Type.Object({ memberId: Type.String(), bookId: Type.String() }), loansOf = 1) => command(loan, {
  method: 'POST',
  url: '/lending/loans',
  summary: 'Borrow a book, whatever the rules say',
  input,
  example: { memberId: '', bookId: '' },
  sees: (_, { memberId }) => ({ member: one(member, memberId) }),
  decide: (_, opening, { id, seen }) => [
    { type: 'LoanOpened', data: { ...opening, openedOn: '2026-01-01', dueOn: '2026-01-22' } },
    ...up(loansOf).map(() => on(seen.member, { type: 'MemberBorrowed', data: { loanId: id } }))
  ]
})

t.test('what gets past the rules, the constraints of the tables refuse, in the words of the module, and nothing but that', async t => {
  const { db } = await database(t)
  await alone(db, [join(0), ...up(3).map(add)])
  const wrong: Record<string, Request> = {
    LENDING_BOOK_NOT_FOUND: request(careless(), loanId(1), { memberId: memberId(0), bookId: bookId(9) }),
    LENDING_TOO_MANY_LOANS: request(careless(undefined, 6), loanId(2), { memberId: memberId(0), bookId: bookId(1) }),
    LENDING_BOOK_IS_OUT: request(careless(), loanId(3), { memberId: memberId(0), bookId: bookId(0) })
  }
  for (const [code, request] of Object.entries(wrong)) {
    await empty(db)
    await alone(db, [join(0), ...up(3).map(add)])
    t.same(codes(await together(db, [borrow(8, 0, 0), request, borrow(9, 0, 2)])), ['done', code, 'done'], `${code} in a group`)
    t.same(codes(await alone(db, [request])), [code], `${code} alone`)
    t.match(await stored(db), { loans: { length: 2 }, members: [{ loans: [loanId(8), loanId(9)] }] })
    await consistent(db)
  }
})

t.test('a command whose state refers to another aggregate than a moment ago is decided again', async t => {
  const { db } = await database(t)
  const noted = command(loan, {
    method: 'POST',
    url: '/lending/loans/:id/note',
    summary: 'Sees the first member before the loan is recalled, and then the second',
    input: Type.Object({}),
    example: {},
    sees: (state: { recalledOn?: string }) => ({ member: one(member, memberId(state.recalledOn === undefined ? 0 : 1)) }),
    decide: (_, __, { seen }) => [on(seen.member, { type: 'MemberSuspended', data: {} })]
  })
  await alone(db, [join(0), join(1), join(2), add(0), borrow(0, 2, 0)])
  t.same(codes(await together(db, [request(recallLoan, loanId(0)), request(noted, loanId(0))])), ['done', 'done'])
  t.match((await stored(db)).members, [{ suspended: false }, { suspended: true }, { suspended: false }])
})

t.test('what cannot be decided, since it refers to something else each time, is not overtaken by what comes after it in its order', async t => {
  const { db } = await database(t)
  let members = 10
  const restless = command(loan, {
    method: 'POST',
    url: '/lending/loans/:id/note',
    summary: 'Sees another member each time',
    input: Type.Object({}),
    example: {},
    sees: () => ({ member: one(member, memberId(members++)) }),
    decide: () => []
  })
  await alone(db, [join(0), add(0), borrow(0, 0, 0)])
  const executor = makeExecutor(db, new Registry())
  const [undecided, after] = await inTime(executor.executeAll([request(restless, loanId(0)), request(recallLoan, loanId(0))], {}))
  t.match(undecided, { ok: false, error: { code: '40001' } })
  t.match(after, { ok: false, error: { code: 'UNAVAILABLE' } })
  t.equal((await stored(db)).events.length, 4, 'the loan is not recalled')
})

t.test('over HTTP: If-Match and the answer are of the own aggregate, and a key is for all that the command did', async t => {
  const { url, db } = await database(t)
  const app = await build(async app => {
    await app.register(openapi, { title: 'Bifold commands', description: 'For a test.' })
    await app.register(postgres, { url, modules })
    await app.register(commands, { modules })
  }, {}, { name: 'gateway', logLevel: 'silent' })
  t.teardown(async () => await app.close())
  const post = async (url: string, payload: object | undefined, headers = {}) => {
    const response = await app.inject({ method: 'POST', url, headers, ...payload === undefined ? {} : { payload } })
    return { status: response.statusCode, location: response.headers.location, etag: response.headers.etag, replayed: response.headers['idempotency-replayed'], shows: readTokens('', [String(response.headers['consistency-token'] ?? '')]), ...response.json() }
  }
  const [fanny, emma] = await Promise.all([post('/lending/members', { name: 'Fanny Price' }), post('/books', { title: 'Emma', authors: ['Jane Austen'] })])
  const opening = { memberId: fanny.id.toUpperCase(), bookId: emma.id }
  const lent = await post('/lending/loans', opening, { 'idempotency-key': 'one' })
  t.match(lent, { status: 201, location: `/lending/loans/${lent.id}`, etag: '"1"', version: 1 })
  const shows = [{ aggregate: 'loans', id: lent.id, version: 1 }, { aggregate: 'members', id: fanny.id, version: 2 }, { aggregate: 'books', id: emma.id, version: 1 }]
  t.same(lent.shows, shows, 'a read with its token shows all that it has changed and seen')
  t.match(await post('/lending/loans', opening, { 'idempotency-key': 'one' }), { status: 201, id: lent.id, version: 1, replayed: 'true', shows })
  t.match(await post('/lending/loans', opening), { status: 409, code: 'LENDING_BOOK_IS_OUT' })
  t.match(await post('/lending/loans', { ...opening, memberId: emma.id }), { status: 404, code: 'LENDING_MEMBER_NOT_FOUND' })
  t.match(await post('/lending/loans', { memberId: 'nobody' }), { status: 400, errors: [{ path: '/bookId' }, { path: '/memberId' }] })
  const back = `/lending/loans/${lent.id}/return`
  t.match(await post(back, undefined, { 'if-match': '"2"' }), { status: 412, code: 'VERSION_MISMATCH' })
  t.match((await stored(db)).members, [{ version: 2, loans: [lent.id] }], 'what was refused has changed nobody')
  t.match(await post(back, undefined, { 'if-match': '"1"' }), { status: 200, version: 2, etag: '"2"' })
  t.match((await stored(db)).members, [{ version: 3, loans: [] }])
})
