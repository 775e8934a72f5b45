/** Two gateways, a relay with a standby, three projectors and two query services behind one address each: resized and killed under load, nothing is lost, doubled, reordered or refused. */
import { setTimeout } from 'node:timers/promises'
import { credentials } from '@grpc/grpc-js'
import getPort from 'get-port'
import t from 'tap'
import { booksV1 } from '@bifold/proto'
import { check } from '@bifold/tools/crash-kit/check'
import { startLoad, type Seen } from '@bifold/tools/crash-kit/load'
import { untilSettled } from '@bifold/tools/crash-kit/settle'
import { openFleet, type Fleet, type Instance } from '@bifold/tools/fleet'
import { stores, until, type AppName } from './pipeline.ts'
import { callAll } from './system.ts'

const full = { gateway: 2, relay: 2, projector: 3, query: 2 }
const host = '127.0.0.1'
const load = { clients: 16, restMs: 25, keepAliveMs: 300 } // moderate: what is in flight counts, not how much. A server that leaves waits for a second for whoever rests
const workMs = 1000 // between two steps, so that whoever has come takes part
const takeOverMaxMs = 8000 // a lease that is not given back lasts 6 s

const of = ({ instances }: Fleet, app: AppName): Instance[] => instances.filter(one => one.app === app)
const isReady = async ({ url }: Instance) => (await fetch(`${url}/health/ready`)).ok

/** A figure of a process, all its labels together. */
async function figure ({ url }: Instance, name: string): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text()
  return [...metrics.matchAll(new RegExp(`^${name}(?:{[^}]*})? (.+)$`, 'gm'))].reduce((sum, [, value]) => sum + Number(value), 0)
}

/** The relay that is at work, and the one that stands by. */
const relays = async (fleet: Fleet) => await until(async () => {
  const ready = await Promise.all(of(fleet, 'relay').map(isReady))
  const [working, standby] = [of(fleet, 'relay')[ready.indexOf(true)], of(fleet, 'relay')[ready.indexOf(false)]]
  return working !== undefined && standby !== undefined && { working, standby }
}, 'one relay to be at work')

t.test('resized, and killed, under load', async t => {
  const settings = await stores(t)
  const ports = { GATEWAY_PORT: await getPort(), QUERY_HTTP_PORT: await getPort(), QUERY_GRPC_PORT: await getPort(), PROJECTOR_PORT: await getPort(), RELAY_PORT: await getPort() }
  const env = Object.fromEntries(Object.entries({ ...settings, LOG_LEVEL: 'warn' }).map(([name, value]) => [name, String(value)]))
  const told: string[] = []
  // The crash kit's projector counts besides, which no later event can mend.
  const fleet = await openFleet({ host, ports, env, logFolder: t.testdir(), say: sentence => told.push(sentence), mains: { projector: 'tools/crash-kit/projector.ts' } })
  t.teardown(async () => await fleet.stop())
  await fleet.resize(full)
  t.same(fleet.instances.map(({ app, number }) => `${app} ${number}`).sort(), ['gateway 1', 'gateway 2', 'projector 1', 'projector 2', 'projector 3', 'query 1', 'query 2', 'relay 1', 'relay 2'])

  const seen: Seen[] = []
  const [gateway, query] = [`http://${host}:${ports.GATEWAY_PORT}`, `http://${host}:${ports.QUERY_HTTP_PORT}`]
  const running = startLoad({ gateways: [gateway], queries: [query], ...load, seed: 1, seen: request => seen.push(request) })
  let stopped: ReturnType<typeof running.stop> | undefined
  const stop = async () => await (stopped ??= running.stop())
  t.teardown(stop)
  const books = () => {
    const client = new booksV1.BookQueryServiceClient(`${host}:${ports.QUERY_GRPC_PORT}`, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 })
    t.teardown(() => client.close())
    return client
  }
  const calls = callAll(t, { books }, { callers: 8, restMs: 15 })

  for (const counts of [{ projector: 1 }, { gateway: 1 }, { query: 1 }, { projector: 3 }, { gateway: 2, query: 2 }, { gateway: 1, projector: 2, query: 1 }, full]) {
    await setTimeout(workMs)
    const begun = Date.now()
    await fleet.resize(counts)
    t.comment(`${JSON.stringify(counts)}: ${Date.now() - begun} ms`)
    for (const [app, count] of Object.entries(counts)) t.equal(of(fleet, app as AppName).length, count, `${count} of ${app}`)
  }
  // Each is busy when it has new connections; which process takes one is up to the system.
  await until(async () => (await Promise.all(of(fleet, 'gateway').map(async one => await figure(one, 'bifold_commands_total')))).every(commands => commands > 0), 'both gateways to have commands')
  await until(async () => (await Promise.all(of(fleet, 'projector').map(async one => await figure(one, 'bifold_projector_events_total')))).every(events => events > 0), 'all projectors to have events')
  const failed = () => ({ http: seen.filter(({ status, error }) => error !== undefined || status! >= 500), grpc: calls.failed.map(({ error }) => error.message) })
  t.same(failed(), { http: [], grpc: [] }, 'resizing fails no request, and refuses no connection')

  const { working, standby } = await relays(fleet)
  working.kill()
  const killed = Date.now()
  await until(async () => await isReady(standby), 'the standby to take over')
  t.ok(Date.now() - killed < takeOverMaxMs, `the standby is at work after ${Date.now() - killed} ms`)
  of(fleet, 'projector')[1]!.kill()
  of(fleet, 'gateway')[0]!.kill()
  const cut = Date.now()
  await until(async () => ['relay', 'projector', 'gateway'].every(app => told.some(sentence => sentence.startsWith(app) && /\(SIGKILL\) and is started again/.test(sentence))), 'the deaths to be told')
  await until(async () => (await Promise.all(fleet.instances.filter(({ app }) => app !== 'relay').map(isReady))).every(Boolean), 'all to be back')

  await calls.stop()
  const record = await stop()
  // What the killed gateway had in its hands; everybody else was served by the other one.
  t.same(failed().http.filter(({ to, begun, ended }) => to !== 'gateways' || begun > cut + 1000 || ended < cut), [], 'only what was under way in the killed gateway failed')
  t.same(failed().grpc, [])
  t.comment(`${seen.length} requests over HTTP, ${failed().http.length} of them cut off, and ${calls.answered} calls over gRPC`)
  t.ok(record.answered.length > 1000 && calls.answered > 1000, 'there was load')
  const settled = await untilSettled({ processes: fleet.instances }, Date.now(), () => {})
  for (const { what, count, first } of await check(settings, record, settled, query)) t.equal(count, 0, `${what}${first.map(one => `; ${one}`).join('')}`)
})
