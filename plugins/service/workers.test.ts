/** An app in several processes: one port, one set of metrics, one health; and the query service so. */
import t, { type Test } from 'tap'
import getPort from 'get-port'
import { execa } from 'execa'
import { credentials } from '@grpc/grpc-js'
import { booksV1 } from '@bifold/proto'
import { call, stores, until } from '@bifold/test'

const project = new URL('../..', import.meta.url)

function start (t: Test, script: string, env: Record<string, string>) {
  const child = execa(process.execPath, [script], { cwd: project, env: { LOG_LEVEL: 'warn', WORKERS: '2', ...env }, stdin: 'ignore', reject: false })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await child
  })
  return child
}

async function fixture (t: Test) {
  const port = await getPort()
  const child = start(t, 'plugins/service/workers-app.ts', { PORT: String(port) })
  const url = `http://127.0.0.1:${port}`
  // A connection of its own for each request, so that both workers get some; one that was being handed to a worker when it was killed stays unanswered.
  const get = async (path: string, patienceMs = 5000) => await fetch(`${url}${path}`, { headers: { connection: 'close' }, signal: AbortSignal.timeout(patienceMs) })
  const ready = async () => await (await get('/health/ready', 200)).json() as { status: string, checks: Record<string, { ok: boolean, reason?: string }> }
  await until(async () => (await ready()).status === 'ready', 'both workers')
  const pids = async () => new Set(await Promise.all(Array.from({ length: 20 }, async () => (await (await get('/pid')).json() as { pid: number }).pid)))
  return { child, get, ready, pids }
}

t.test('one set of metrics: counters are added up, a lag is not, and what is unknown stays so', async t => {
  const { get, pids } = await fixture(t)
  t.equal((await pids()).size, 2, 'both workers have answered')
  for (let n = 0; n < 4; n++) {
    const metrics = await (await get('/metrics')).text()
    t.match(metrics, /^asked_total 20$/m, 'whichever worker answers')
    t.match(metrics, /^lag 7$/m)
    t.match(metrics, /^unknown nan$/mi)
  }
})

t.test('one health: one worker that is unwell makes all unready, with its reason', async t => {
  const { get, ready } = await fixture(t)
  await get('/unwell')
  for (let n = 0; n < 4; n++) t.match(await ready(), { status: 'not ready', checks: { mood: { ok: false, reason: 'one of us is unwell' } } }, 'whichever worker answers')
})

t.test('a worker that is killed is missed, and started again', async t => {
  const { ready, pids } = await fixture(t)
  const before = await pids()
  process.kill([...before][0]!, 'SIGKILL')
  const told = await until(async () => (await ready()).checks['workers'], 'readiness to tell')
  t.same(told, { ok: false, reason: '1 of 2 workers do not answer' })
  await until(async () => (await ready()).status === 'ready', 'the new worker')
  const after = await pids()
  t.equal(after.size, 2)
  t.ok(after.has([...before][1]!) && !after.has([...before][0]!))
})

t.test('SIGTERM: what was accepted is answered, then all processes end', async t => {
  const { child, get, pids } = await fixture(t)
  const workers = await pids()
  const slow = Array.from({ length: 10 }, async () => (await get('/slow')).status)
  await until(async () => (await get('/pid')).ok)
  child.kill('SIGTERM')
  t.same(await Promise.all(slow), Array(10).fill(200))
  t.equal((await child).exitCode, 0)
  for (const pid of workers) t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
})

t.test('a primary that is killed leaves nobody behind', async t => {
  const { child, get, pids } = await fixture(t)
  const workers = await pids()
  const slow = Array.from({ length: 4 }, async () => (await get('/slow')).status)
  await until(async () => (await get('/pid')).ok)
  child.kill('SIGKILL')
  t.same(await Promise.all(slow), Array(4).fill(200), 'they answer what they had accepted')
  await until(async () => [...workers].every(pid => !runs(pid)), 'the workers to end')
})

t.test('the query service in two processes, over gRPC and HTTP', async t => {
  const settings = await stores(t)
  const [http, grpc] = [await getPort(), await getPort()]
  start(t, 'apps/query/main.ts', { MONGO_URL: settings.MONGO_URL, QUERY_HTTP_PORT: String(http), QUERY_GRPC_PORT: String(grpc) })
  await until(async () => (await fetch(`http://127.0.0.1:${http}/health/ready`)).ok, 'the query service')
  const missing = { ids: ['019a0000-0000-7000-8000-000000000000'] }
  for (let n = 0; n < 4; n++) { // a channel each, so that both workers get some
    const books = new booksV1.BookQueryServiceClient(`127.0.0.1:${grpc}`, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 })
    t.teardown(() => books.close())
    t.match(await call(books.batchGetBooks.bind(books), missing), { books: [], missingIds: missing.ids })
  }
  t.equal((await fetch(`http://127.0.0.1:${http}/books`)).status, 200)
})

function runs (pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
