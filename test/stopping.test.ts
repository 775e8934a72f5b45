/** Each app is stopped under load as an orchestrator stops it: what was accepted is answered, and a rolling restart fails no request. */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import { setTimeout } from 'node:timers/promises'
import { credentials, loadPackageDefinition, status, type ClientDuplexStream, type ClientReadableStream, type StatusObject } from '@grpc/grpc-js'
import protoLoader from '@grpc/proto-loader'
import { protoPath } from 'grpc-health-check'
import getPort from 'get-port'
import kafkajs from 'kafkajs'
import { sql } from 'kysely'
import { connect } from '@bifold/postgres'
import { emptyReadModels, kafkaFor, startProcess, stores, until, type Settings } from './pipeline.ts'
import { callAll, system, type Counts } from './system.ts'

const load = { clients: 16, restMs: 0 } // a client that rests seldom uses a connection in the moment of its close: without the drain 13 of some 14,000 requests fail
const streamsMaxMs = 4000 // calls that do not end are cut off after 5 s
const stopMaxMs = 10_000 // below the 15 s after which an app ends by force

const reflectionProto = new URL('../proto/grpc/reflection/v1/reflection.proto', import.meta.resolve('@grpc/reflection')).pathname

/** A client of one of the standard services. */
function client (path: string, service: string, port: number) {
  const found = service.split('.').reduce((within, name) => (within as Record<string, unknown>)[name], loadPackageDefinition(protoLoader.loadSync(path, { keepCase: true, enums: String })) as unknown)
  const Client = found as new (...args: unknown[]) => Record<string, (...args: unknown[]) => unknown> & { close (): void }
  return new Client(`127.0.0.1:${port}`, credentials.createInsecure())
}

/** Restarts each process in turn, under load, and compares everything afterwards. */
async function roll (t: Test, settings: Settings, counts: Counts) {
  const all = await system(t, settings, counts)
  const running = all.load(load)
  const calls = callAll(t, all, { callers: 12, restMs: 1 })
  for (const member of all.members) {
    await setTimeout(500) // some work between two restarts
    const { exitCode, tookMs } = await member.stop()
    t.equal(exitCode, 0, `${member.app} ends by itself`)
    t.ok(tookMs < stopMaxMs, `${member.app} ended after ${tookMs} ms`)
    t.comment(`${member.app} ended after ${tookMs} ms`)
    await member.start({ ready: member.app !== 'relay' })
  }
  await calls.stop()
  const record = await running.stop()
  const failed = running.seen.filter(({ status, error }) => error !== undefined || status! >= 500)
  t.comment(`${running.seen.length} requests over HTTP, ${calls.answered} calls over gRPC`)
  t.ok(record.answered.length > 1000 && calls.answered > 1000, 'there was load')
  t.same(failed.map(({ to, url, status, error }) => `${to} ${url} ${status ?? ''} ${error ?? ''}`), [], 'each request over HTTP was answered')
  t.same(calls.failed.map(({ error }) => error.message), [], 'each call over gRPC was answered')
  await all.verdict(t, record)
}

t.test('a rolling restart of two of each fails no request', async t => await roll(t, await stores(t), { gateway: 2, relay: 2, projector: 2, query: 2 }))

t.test('nor does one of gateways and query services of several processes each', async t => await roll(t, { ...await stores(t), WORKERS: 2 }, { gateway: 2, query: 2 }))

t.test('the relay and the projector hand over at once, and leave nothing held', async t => {
  const settings = await stores(t)
  const all = await system(t, settings, { relay: 2, projector: 2 })
  const running = all.load(load)
  const db = connect(settings.POSTGRES_URL, 1)
  t.teardown(async () => await db.destroy())
  const admin = kafkaFor(settings).admin()
  await admin.connect()
  t.teardown(async () => await admin.disconnect())
  const isReady = async (url: string) => (await fetch(`${url}/health/ready`)).ok
  await setTimeout(1000)

  const [relay, standby] = all.of('relay')
  const holders = async () => (await sql<{ pid: number }>`select pid from pg_locks join pg_database on pg_database.oid = database where datname = current_database() and locktype = 'advisory' and granted`.execute(db)).rows.map(({ pid }) => pid)
  const [holder] = await holders()
  t.ok(holder !== undefined, 'the relay has the lease')
  t.match(await relay!.stop(), { exitCode: 0 })
  const freed = Date.now()
  t.notOk((await holders()).includes(holder!), 'it has given the lease back, which need not expire')
  await until(async () => await isReady(standby!.url), 'the standby')
  t.comment(`the other relay is at work after ${Date.now() - freed} ms`)
  const { rows } = await sql<{ senders: number }>`select count(*)::int as senders from pg_stat_replication where application_name = 'bifold-relay'`.execute(db)
  t.ok(rows[0]!.senders >= 1, 'PostgreSQL streams')

  const [projector, other] = all.of('projector')
  t.match(await projector!.stop(), { exitCode: 0 })
  const left = Date.now()
  const group = `bifold-projector.${new URL(settings.MONGO_URL).pathname.slice(1)}.${settings.EVENTS_TOPIC}`
  const members = async () => (await admin.describeGroups([group])).groups[0]!.members
  t.equal((await members()).length, 1, 'it has left the group, and its session need not expire')
  const partitions = (await admin.fetchTopicOffsets(settings.EVENTS_TOPIC)).length
  await until(async () => {
    const [own] = (await members()).map(({ memberAssignment }) => kafkajs.AssignerProtocol.MemberAssignment.decode(memberAssignment)?.assignment[settings.EVENTS_TOPIC] ?? [])
    return own?.length === partitions && await isReady(other!.url) && Number(/^bifold_projector_oldest_seconds (.+)$/m.exec(await (await fetch(`${other!.url}/metrics`)).text())![1]) < 1
  }, 'the other projector')
  t.comment(`the other projector has all partitions, and is not behind, after ${Date.now() - left} ms`)
  await relay!.start({ ready: false })
  await projector!.start()
  await all.verdict(t, await running.stop())
})

t.test('a batch is ended with what was accepted, and tells where to go on; a client that does not listen is not waited for', async t => {
  const settings = await stores(t)
  const gateway = await startProcess(t, 'gateway', settings)
  await until(async () => (await fetch(`${gateway.url}/health/ready`)).ok, 'the gateway')
  const book = Buffer.from(`${JSON.stringify({ title: 'Emma', authors: ['Jane Austen'] })}\n`.repeat(100))
  const batch = async () => {
    const request = http.request(`${gateway.url}/books:batch`, { method: 'POST', agent: new http.Agent({ keepAlive: true }), headers: { 'content-type': 'application/x-ndjson' } })
    request.setMaxListeners(0).on('error', () => {})
    const flood = async () => { while (!request.destroyed) if (!request.write(book)) await Promise.race([once(request, 'drain'), once(request, 'close')]) }
    flood().catch(() => {}) // the connection is closed in the end
    const [response] = await once(request, 'response') as [IncomingMessage]
    return { request, text: response.setEncoding('utf8').toArray() }
  }
  const batches = await Promise.all([batch(), batch()])
  await setTimeout(500)
  const begun = Date.now()
  gateway.kill('SIGTERM')
  let done = 0
  for (const { text, request } of batches) {
    const lines = (await text).join('').trim().split('\n').map(line => JSON.parse(line))
    t.match(lines.at(-1), { status: 503, code: 'STOPPING', nextLine: lines.length })
    t.same(lines.slice(0, -1).filter(({ status }) => status !== 201), [])
    done += lines.length - 1
    if (request === batches[0]!.request) request.destroy() // the other goes on sending
  }
  t.match(await gateway.ended, { exitCode: 0 })
  t.comment(`${done} lines; it ended after ${Date.now() - begun} ms`)
  t.ok(Date.now() - begun < streamsMaxMs, 'nobody was waited for in vain')
  const db = connect(settings.POSTGRES_URL, 1)
  t.teardown(async () => await db.destroy())
  const { rows } = await sql<{ events: number }>`select count(*)::int as events from events`.execute(db)
  t.equal(rows[0]!.events, done, 'nothing is done that was not answered')
})

t.test('streams over gRPC are ended and not broken', async t => {
  const settings = { ...await stores(t), QUERY_GRPC_PORT: await getPort() }
  await emptyReadModels(settings)
  const query = await startProcess(t, 'query', settings)
  await until(async () => (await fetch(`${query.url}/health/ready`)).ok, 'the query service')
  const health = client(protoPath, 'grpc.health.v1.Health', settings.QUERY_GRPC_PORT)
  const reflection = client(reflectionProto, 'grpc.reflection.v1.ServerReflection', settings.QUERY_GRPC_PORT)
  t.teardown(() => {
    health.close()
    reflection.close()
  })
  const watched = health['Watch']!({ service: '' }) as ClientReadableStream<{ status: string }>
  const told: string[] = []
  watched.on('data', ({ status }) => told.push(status))
  const reflected = reflection['ServerReflectionInfo']!() as ClientDuplexStream<object, object>
  reflected.write({ list_services: '' })
  await once(reflected, 'data')
  await until(async () => told.includes('SERVING'), 'the watcher to be told')
  const statuses = [watched, reflected].map(async stream => (await once(stream, 'status') as [StatusObject])[0])
  const begun = Date.now()
  query.kill('SIGTERM')
  t.match(await Promise.all(statuses), [{ code: status.OK }, { code: status.OK }])
  t.equal(told.at(-1), 'NOT_SERVING', 'the watcher was told before')
  t.match(await query.ended, { exitCode: 0 })
  t.comment(`it ended after ${Date.now() - begun} ms`)
  t.ok(Date.now() - begun < streamsMaxMs, 'nobody was waited for in vain')
})
