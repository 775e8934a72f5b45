/** A server that hangs under load: what reads ahead stops reading, and goes on by itself when the server is back. */
import t, { type Test } from 'tap'
import { setTimeout } from 'node:timers/promises'
import { Registry } from 'prom-client'
import { sql } from 'kysely'
import { makeExecutor } from '@bifold/commands/executor'
import { newId } from '@bifold/commands/ids'
import { modules } from '@bifold/modules'
import { comparable, compare } from '@bifold/tools/compare'
import { pipeline, readTopic, servers, startApp, until, type Pipeline } from './pipeline.ts'

const count = 20_000 // several times what may be read ahead
const emma = { title: 'Emma', authors: ['Jane Austen'], description: 'Handsome, clever and rich. '.repeat(20) }

/** Commits books as the gateway does, and a revision of each. */
async function write ({ db }: Pipeline) {
  const { execute } = makeExecutor(db, new Registry())
  const { addBook, reviseBook } = modules[0]!.commands
  const request = { bytes: 0, expected: undefined, key: undefined, requestId: 'load', traceparent: '' }
  for (let done = 0; done < count; done += 2000) {
    const ids = Array.from({ length: 1000 }, () => newId())
    await Promise.all(ids.map(async id => await execute({ ...request, command: addBook!, id, input: emma })))
    await Promise.all(ids.map(async id => await execute({ ...request, command: reviseBook!, id, input: { price: 799 } })))
  }
}

async function allThere (t: Test, line: Pipeline, books: number) {
  await until(async () => await line.metric('relay', 'bifold_relay_lag_events') === 0 && await line.metric('projector', 'bifold_projector_lag_events') === 0, 'the lag to be gone')
  const found = await Promise.all(comparable(modules).map(async aggregate => await compare(line.db, line.mongo as never, aggregate)))
  t.match(found, [{ postgres: books, mongo: books, equal: books }])
  const seen = new Map<string, number>()
  for (const { key, headers } of await readTopic(line.settings)) {
    const version = Number(headers['ce_version'])
    if (version !== (seen.get(key) ?? 0) + 1) t.fail(`${key} has version ${version} after ${seen.get(key)}`)
    seen.set(key, version)
  }
  t.equal([...seen.values()].reduce((sum, version) => sum + version), (await line.db.selectFrom('events').select(sql<number>`count(*)`.as('all')).executeTakeFirstOrThrow()).all, 'each event is on the topic once')
}

type Name = 'relay' | 'projector'
const ready = async (line: Pipeline, name: Name) => await (await fetch(`${line.apps[name].url}/health/ready`)).json() as { status: string, checks: Record<string, { ok: boolean }> }

/** What a server answered last holds for some seconds. */
const notReady = async (line: Pipeline, name: Name, server: string) => await until(async () => {
  const { status, checks } = await ready(line, name)
  return status === 'not ready' && !checks[server]!.ok
}, `${name} not to be ready, for ${server}`)

t.test('servers that hang', async t => {
  const own = await servers(t)
  const line = await pipeline(t, own.dir)

  await t.test('Kafka: the relay leaves the WAL in PostgreSQL', async t => {
    await own.freeze('kafka')
    await write(line)
    t.match(await line.post('/books', emma), { status: 201 }, 'commands are accepted all the same')
    await notReady(line, 'relay', 'kafka')
    // What fits into the sockets' buffers is read from the WAL too, but no more of it is sent after that.
    const left = async () => (await sql<{ bytes: number }>`select pg_wal_lsn_diff(pg_current_wal_lsn(), sent_lsn)::float8 as bytes from pg_stat_replication where application_name = 'bifold-relay'`.execute(line.db)).rows[0]!.bytes
    const before = await left()
    await setTimeout(500)
    t.equal(await left(), before, 'it reads no further')
    t.ok(before > 5e6, `${before} bytes of WAL are left`)
    const waiting = await line.metric('relay', 'bifold_relay_waiting_events')
    t.ok(waiting > 0 && waiting < 6000, `${waiting} of ${count} events are read ahead`)
    await own.thaw('kafka')
    await allThere(t, line, count / 2 + 1)
    t.match(await ready(line, 'relay'), { status: 'ready' })
  })

  await t.test('MongoDB: the projector leaves the messages in Kafka', async t => {
    await own.freeze('mongo')
    await write(line)
    await until(async () => await line.metric('relay', 'bifold_relay_lag_events') === 0, 'the relay, which does not need MongoDB')
    await notReady(line, 'projector', 'mongo')
    t.same(await line.metric('projector', 'bifold_projector_lag_events'), NaN, 'nobody knows')
    const waiting = async () => await line.metric('projector', 'bifold_projector_waiting_events')
    const before = await waiting()
    await setTimeout(500)
    t.equal(await waiting(), before, 'it reads no further')
    t.ok(before > 0 && before < count / 2, `${before} of ${count} events are read ahead`)
    await own.thaw('mongo')
    await allThere(t, line, count + 1)
    t.match(await ready(line, 'projector'), { status: 'ready' })
  })

  await t.test('apps that are started while all servers hang are ready when those are back', async t => {
    for (const name of ['postgres', 'kafka', 'mongo'] as const) await own.freeze(name)
    const apps = await Promise.all((['gateway', 'relay', 'projector', 'query'] as const).map(async name => await startApp(t, name, { ...line.settings, QUERY_GRPC_PORT: 0 }, { ready: false })))
    const states = async () => await Promise.all(apps.map(async ({ url }) => (await fetch(`${url}/health/ready`)).status))
    await setTimeout(4000) // each has met a server that does not answer, and given up for the first time
    t.same(await states(), [503, 503, 503, 503])
    for (const name of ['postgres', 'kafka', 'mongo'] as const) await own.thaw(name)
    // The second relay stands by: the first has the slot.
    await until(async () => String(await states()) === '200,503,200,200', 'all of them')
    await Promise.all(apps.map(async ({ app }) => await app.close()))
  })
})
