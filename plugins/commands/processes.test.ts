/** Processes on the real PostgreSQL: each command that an event leads to is executed once, whatever happens to gateways and connections meanwhile. */
import { setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { sql } from 'kysely'
import { ask, createError, one, process, type AnyProcess, type BoundCommand, type Module } from '@bifold/cqrs'
import { modules } from '@bifold/modules'
import { books } from '@bifold/modules/books'
import { lending } from '@bifold/modules/lending'
import openapi from '@bifold/openapi'
import postgres, { connect, type Db } from '@bifold/postgres'
import { build } from '@bifold/service'
import { stores, until } from '@bifold/test'
import { digestOf } from './headers.ts'
import commands from './index.ts'
import processes from './processes.ts'

const { addBook } = books.commands as Record<'addBook', BoundCommand<any>>
const { suspendMember, reinstateMember } = lending.commands as Record<'suspendMember' | 'reinstateMember', BoundCommand<any>>

/** The modules with these processes in place of lending's own. */
const withProcesses = (...own: AnyProcess[]): Module[] => [books, { ...lending, processes: own }]

/** Two new books for each member: what is done twice, or once only, stays visible. */
const gifts = process<any>({
  name: 'gifts',
  on: { MemberJoined: ({ record }) => ['Emma', 'Persuasion'].map(title => ask(addBook, undefined, { title: `${title}, for ${record.name}`, authors: ['Jane Austen'] })) }
})

interface Gateway {
  post (url: string, body?: object, headers?: Record<string, string>): Promise<{ status: number, id: string, code?: string }>
  del (url: string): Promise<number>
  metric (pattern: RegExp): Promise<string | undefined>
  ready (): Promise<boolean>
  close (): Promise<void>
}

async function gateway (t: Test, url: string, modules: readonly Module[], { reacts = true } = {}): Promise<Gateway> {
  const app = await build(async app => {
    await app.register(openapi, { title: 'Bifold commands', description: 'For a test.' })
    await app.register(postgres, { url, modules })
    await app.register(commands, { modules })
    if (reacts) await app.register(processes, { modules })
  }, {}, { name: 'gateway', logLevel: 'silent' })
  t.teardown(async () => await app.close())
  await app.ready()
  const ready = async () => (await app.inject('/health/ready')).statusCode === 200
  await until(ready, 'the gateway to be ready')
  return {
    async post (url, payload, headers = {}) {
      const response = await app.inject({ method: 'POST', url, headers, ...payload === undefined ? {} : { payload } })
      return { status: response.statusCode, ...response.json() }
    },
    del: async url => (await app.inject({ method: 'DELETE', url })).statusCode,
    metric: async pattern => pattern.exec((await app.inject('/metrics')).body)?.[1],
    ready,
    close: async () => await app.close()
  }
}

async function database (t: Test) {
  const { POSTGRES_URL: url } = await stores(t)
  const db = connect(url, 2)
  t.teardown(async () => await db.destroy())
  return { url, db }
}

const types = async (db: Db, id?: string) => (await sql<{ type: string }>`select type from events where ${id ?? null}::uuid is null or aggregate_id = ${id ?? null} order by position`.execute(db)).rows.map(({ type }) => type)
const left = async (db: Db) => (await sql<{ count: number }>`select count(*) as count from process_events`.execute(db)).rows[0]!.count
const untilNothingIsLeft = async (db: Db) => await until(async () => await left(db) === 0, 'nothing to be left to do')
const titles = async (db: Db) => (await sql<{ title: string }>`select title from books order by title`.execute(db)).rows.map(({ title }) => title)
const giftsOf = (names: readonly string[]) => names.flatMap(name => [`Emma, for ${name}`, `Persuasion, for ${name}`]).sort()

t.test('a book that is withdrawn while it is lent is recalled; one that is not lent is nobody\'s', async t => {
  const { url, db } = await database(t)
  const { post, del, metric } = await gateway(t, url, modules)
  const [{ id: memberId }, ...ids] = await Promise.all([post('/lending/members', { name: 'Fanny Price' }), ...['Emma', 'Persuasion'].map(async title => await post('/books', { title, authors: ['Jane Austen'] }))])
  const { id: loan } = await post('/lending/loans', { memberId, bookId: ids[0]!.id })
  for (const { id } of ids) t.equal(await del(`/books/${id}`), 200)
  await untilNothingIsLeft(db)
  t.same(await types(db, loan), ['LoanOpened', 'LoanRecalled'])
  const { rows: [withdrawn, recalled] } = await sql<{ requestId: string }>`select request_id from events where type in ('BookWithdrawn', 'LoanRecalled') and aggregate_id in (${ids[0]!.id}, ${loan}) order by position`.execute(db)
  t.equal(recalled!.requestId, withdrawn!.requestId, 'the command has the request id of what led to it')
  await until(async () => await metric(/bifold_process_commands_total\{process="recall-withdrawn",outcome="accepted"\} (\d+)/) === '1', 'the metric')
  t.equal(await metric(/bifold_process_commands_total\{process="recall-withdrawn",outcome="nobody"\} (\d+)/), '1')
})

t.test('nobody can take the key of a process before', async t => {
  const { url, db } = await database(t)
  const { post } = await gateway(t, url, withProcesses(gifts), { reacts: false })
  const { id } = await post('/lending/members', { name: 'Fanny Price' })
  for (const index of [0, 1]) {
    const digest = digestOf(`process gifts: ${id}/1/${index}`)
    for (const digit of [digest[12]!, '0', '1', '4', '7', 'f']) {
      const key = `${digest.slice(0, 8)}-${digest.slice(8, 12)}-${digit}${digest.slice(13, 16)}-${digest.slice(16, 20)}-${digest.slice(20)}`
      t.equal((await post('/lending/members', { name: `${index} ${digit}` }, { 'idempotency-key': key })).status, 201)
    }
  }
  await gateway(t, url, withProcesses(gifts))
  await untilNothingIsLeft(db)
  t.ok((await titles(db)).includes('Emma, for Fanny Price'))
  t.ok((await titles(db)).includes('Persuasion, for Fanny Price'))
})

t.test('a book is borrowed and withdrawn at one moment: the borrow is refused, or a recall follows', async t => {
  const { url, db } = await database(t)
  const [one, two] = await Promise.all([gateway(t, url, modules), gateway(t, url, modules)])
  const outcomes: string[] = []
  const loans: string[] = []
  for (let n = 0; n < 30; n++) {
    const [member, book] = await Promise.all([one.post('/lending/members', { name: `Member ${n}` }), two.post('/books', { title: `Book ${n}`, authors: ['Jane Austen'] })])
    const borrow = async () => await one.post('/lending/loans', { memberId: member.id, bookId: book.id })
    const withdraw = async () => await two.del(`/books/${book.id}`)
    const [lent] = n % 2 === 0 ? await Promise.all([borrow(), withdraw()]) : (await Promise.all([withdraw(), borrow()])).reverse() as [Awaited<ReturnType<typeof borrow>>, number]
    outcomes.push(lent.code ?? 'lent')
    if (lent.code === undefined) loans.push(lent.id)
  }
  await untilNothingIsLeft(db)
  t.match(outcomes.join(), /^((lent|LENDING_BOOK_WITHDRAWN),?)+$/)
  t.comment(`${loans.length} of 30 were lent first`)
  for (const id of loans) t.same(await types(db, id), ['LoanOpened', 'LoanRecalled'])
})

t.test('what was left to do is done by whoever comes, by several at once too, and once', async t => {
  const { url, db } = await database(t)
  const own = withProcesses(gifts)
  const first = await gateway(t, url, own, { reacts: false })
  const names = Array.from({ length: 40 }, (_, n) => `Member ${n}`)
  await Promise.all(names.map(async name => await first.post('/lending/members', { name })))
  t.equal(await left(db), names.length, 'it is written down with the events')
  await Promise.all([1, 2, 3].map(async () => await gateway(t, url, own)))
  await untilNothingIsLeft(db)
  t.same(await titles(db), giftsOf(names))
})

t.test('connections that break, at any moment: nothing is left out, and nothing done twice', async t => {
  const { url, db } = await database(t)
  const own = withProcesses(gifts)
  const [one, two] = await Promise.all([gateway(t, url, own), gateway(t, url, own)])
  const breaking = new AbortController()
  const breaks = (async () => {
    while (!breaking.signal.aborted) {
      await sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`.execute(db)
      await setTimeout(40)
    }
  })()
  const joined: string[] = []
  for (let n = 0; n < 60; n++) {
    const name = `Member ${n}`
    // An answer that was lost says nothing: who is in the table has joined.
    await (n % 2 === 0 ? one : two).post('/lending/members', { name })
    await setTimeout(10)
  }
  breaking.abort()
  await breaks
  const { rows } = await sql<{ name: string }>`select name from members`.execute(db)
  joined.push(...rows.map(({ name }) => name))
  t.ok(joined.length > 0, `${joined.length} have joined`)
  await untilNothingIsLeft(db)
  t.same(await titles(db), giftsOf(joined))
  await until(async () => await one.ready() && await two.ready(), 'both to be ready again')
})

t.test('a command that is refused is passed over; an event that fails holds up its own aggregate only, and is tried again', async t => {
  const { url, db } = await database(t)
  let faults = 0
  const odd = process<any>({
    name: 'odd',
    on: {
      MemberJoined: ({ id, record }) => {
        if (record.name === 'Refused') return [ask(suspendMember, one(lending.aggregates[0] as never, '019a0000-0000-7000-8000-000000000000'), {}), ask(suspendMember, one(lending.aggregates[0] as never, id), {})]
        if (record.name === 'Fails' && faults++ < 1) throw new Error('a fault of the process')
        return [ask(suspendMember, one(lending.aggregates[0] as never, id), {})]
      },
      MemberSuspended: ({ id }) => [ask(reinstateMember, one(lending.aggregates[0] as never, id), {})]
    }
  })
  const { post, metric } = await gateway(t, url, withProcesses(odd))
  const [fails, refused, other] = [await post('/lending/members', { name: 'Fails' }), await post('/lending/members', { name: 'Refused' }), await post('/lending/members', { name: 'Other' })]
  const whole = ['MemberJoined', 'MemberSuspended', 'MemberReinstated']
  for (const { id } of [refused, other]) await until(async () => (await types(db, id)).length === 3, 'what does not fail')
  await untilNothingIsLeft(db)
  for (const { id } of [fails, refused, other]) t.same(await types(db, id), whole)
  t.equal(faults, 2, 'it was tried again once')
  t.equal(await metric(/outcome="LENDING_MEMBER_NOT_FOUND"\} (\d+)/), '1')
  await until(async () => await metric(/bifold_process_held_aggregates\{process="odd"\} (\d+)/) === '0', 'none to be held')
})

t.test('a refusal that may pass is no refusal: the command is tried until it is done', async t => {
  const { url, db } = await database(t)
  const NotNow = createError('LENDING_NOT_NOW', 'Not now', 503, { retryable: true })
  let tries = 0
  const patient = { ...suspendMember, decide: (...args: Parameters<BoundCommand['decide']>) => { if (tries++ < 3) throw new NotNow(); return suspendMember.decide(...args) } }
  const { post } = await gateway(t, url, withProcesses(process<any>({ name: 'patient', on: { MemberJoined: ({ id }) => [ask(patient, one(lending.aggregates[0] as never, id), {})] } })))
  const { id } = await post('/lending/members', { name: 'Fanny Price' })
  await untilNothingIsLeft(db)
  t.same(await types(db, id), ['MemberJoined', 'MemberSuspended'])
})

t.test('a gateway that knows less of a process leaves the rest to those that know', async t => {
  const { url, db } = await database(t)
  const newer = withProcesses(gifts)
  const older = withProcesses({ name: 'gifts', on: {} })
  await gateway(t, url, older)
  const { post, close } = await gateway(t, url, newer, { reacts: false })
  await post('/lending/members', { name: 'Fanny Price' })
  await close()
  await setTimeout(200)
  t.equal(await left(db), 1)
  await gateway(t, url, newer)
  await untilNothingIsLeft(db)
  t.same(await titles(db), giftsOf(['Fanny Price']))
})
