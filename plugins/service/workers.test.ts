/** An app in several processes, and how it leaves its clients: one port, one set of metrics, one health; and the apps so. */
import { once } from 'node:events'
import { Agent, get as httpGet, type IncomingMessage } from 'node:http'
import { connect, createServer, type AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import getPort from 'get-port'
import { execa } from 'execa'
import { credentials } from '@grpc/grpc-js'
import { sql } from 'kysely'
import { connect as connectPostgres } from '@bifold/postgres'
import { booksV1 } from '@bifold/proto'
import { call, emptyReadModels, kafkaFor, stores, until } from '@bifold/test'

const project = new URL('../..', import.meta.url)

function start (t: Test, script: string, env: Record<string, string>) {
  const child = execa(process.execPath, [script], { cwd: project, env: { LOG_LEVEL: 'warn', WORKERS: '2', ...env }, stdin: 'ignore', reject: false })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await child
  })
  return child
}

interface Reply { readonly status: number, readonly last: boolean, readonly body: any }

/** A connection that is kept: all its requests go to one worker. */
function connection (t: Test, port: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  return async (path: string): Promise<Reply> => {
    const response = await new Promise<IncomingMessage>((resolve, reject) => httpGet({ agent, host: '127.0.0.1', port, path }, resolve).on('error', reject))
    return { status: response.statusCode!, last: response.headers.connection === 'close', body: response.headers['content-type']?.includes('json') ? await json(response) : response.resume() }
  }
}

async function fixture (t: Test, env: Record<string, string> = {}) {
  const port = await getPort()
  const child = start(t, 'plugins/service/workers-app.ts', { PORT: String(port), ...env })
  const url = `http://127.0.0.1:${port}`
  // A connection of its own for each request, so that both workers get some; one that a killed worker had taken stays unanswered.
  const get = async (path: string, patienceMs = 5000) => await fetch(`${url}${path}`, { headers: { connection: 'close' }, signal: AbortSignal.timeout(patienceMs) })
  const ready = async () => await (await get('/health/ready', 200)).json() as { status: string, checks: Record<string, { ok: boolean, reason?: string }> }
  await until(async () => (await ready()).status === 'ready', 'both workers')
  let asked = 0
  // On a busy machine one of them may take all that come at once.
  const pids = async () => {
    const seen = new Set<number>()
    for (const end = asked + 400; asked < end && seen.size < Number(env['WORKERS'] ?? 2); asked += 20) {
      for (const { pid } of await Promise.all(Array.from({ length: 20 }, async () => await (await get('/pid')).json() as { pid: number }))) seen.add(pid)
    }
    return seen
  }
  return { child, port, get, ready, pids, asked: () => asked, connection: () => connection(t, port) }
}

t.test('one set of metrics: counters are added up, a lag is not, and what is unknown stays so', async t => {
  const { get, pids, asked } = await fixture(t)
  t.equal((await pids()).size, 2, 'both workers have answered')
  for (let n = 0; n < 4; n++) {
    const metrics = await (await get('/metrics')).text()
    t.match(metrics, new RegExp(`^asked_total ${asked()}$`, 'm'), 'whichever worker answers')
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
  await until(async () => (await ready()).checks['workers']?.reason === 'being started: 1 of 2 workers', 'readiness to tell')
  await until(async () => (await ready()).status === 'ready', 'the new worker')
  const after = await pids()
  t.equal(after.size, 2)
  t.ok(after.has([...before][1]!) && !after.has([...before][0]!))
})

t.test('what a worker had counted when it was last asked is counted on when it has died, and the next after it', async t => {
  const { get, ready, pids, asked } = await fixture(t)
  const metrics = async () => await until(async () => {
    const response = await get('/metrics')
    return response.ok && await response.text()
  }, 'all to be there or gone')
  const commits = (text: string) => Number(/^sizes_count (\d+)$/m.exec(text)![1])
  for (let n = 0; n < 3; n++) {
    const [victim] = await pids()
    t.equal(commits(await metrics()), asked())
    process.kill(victim!, 'SIGKILL')
    await until(async () => !runs(victim!), 'it to end')
    for (const wait of [async () => {}, async () => await until(async () => (await ready()).status === 'ready', 'the new worker')]) {
      await wait()
      const text = await metrics()
      t.match(text, new RegExp(`^asked_total ${asked()}$`, 'm'))
      t.equal(commits(text), asked(), 'histograms too')
      t.match(text, /^lag 7$/m)
    }
    t.match(await metrics(), /^living 2$/m, 'a gauge is of those that live')
  }
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

/** Signals as one Ctrl-C gives them: the terminal to all processes, and npm, which has started the first, to that one. */
async function press (pids: ReadonlySet<number>) {
  const signal = (pid: number) => { if (runs(pid)) process.kill(pid, 'SIGINT') }
  const [first] = pids
  for (const pid of pids) signal(pid)
  await setTimeout(5)
  signal(first!)
}

for (const WORKERS of ['1', '2']) {
  t.test(`Ctrl-C with npm before it, with WORKERS=${WORKERS}: one press is two signals, and ends the app as SIGTERM does`, async t => {
    const { child, get, pids } = await fixture(t, { WORKERS })
    const all = new Set([child.pid!, ...await pids()])
    const slow = Array.from({ length: 10 }, async () => (await get('/slow')).status)
    await until(async () => (await get('/pid')).ok)
    await press(all)
    t.same(await Promise.all(slow), Array(10).fill(200))
    t.equal((await child).exitCode, 0)
  })

  t.test(`Ctrl-C, and again after a while, with WORKERS=${WORKERS}: whoever presses twice does not wait`, async t => {
    const { child, get, pids } = await fixture(t, { WORKERS })
    const all = new Set([child.pid!, ...await pids()])
    const hanging = get('/hanging', 20_000).catch(() => {})
    await until(async () => (await get('/pid')).ok)
    await press(all)
    await setTimeout(600)
    const again = Date.now()
    await press(all)
    t.equal((await child).exitCode, 1)
    t.ok(Date.now() - again < 5000, 'long before it would have given up by itself')
    await hanging
  })
}

t.test('SIGTERM under load: connections that are kept are answered to their last request', async t => {
  const { child, connection } = await fixture(t)
  let answered = 0
  const clients = Array.from({ length: 10 }, async () => {
    const ask = connection()
    for (let last = false; !last;) {
      const reply = await ask('/slow')
      t.equal(reply.status, 200)
      answered++
      last = reply.last
    }
  })
  await until(async () => answered >= 20, 'some load')
  child.kill('SIGTERM')
  await Promise.all(clients)
  t.equal((await child).exitCode, 0)
})

for (const WORKERS of ['1', '2']) {
  t.test(`SIGTERM, while clients connect for each request, with WORKERS=${WORKERS}: whoever is let in is answered`, async t => {
    const { child, port } = await fixture(t, { WORKERS })
    const counts: Record<string, number> = {}
    const stopped = new AbortController()
    const clients = Array.from({ length: 60 }, async () => { // more than are taken in in one turn
      while (!stopped.signal.aborted) {
        const came = await new Promise<string>(resolve => {
          httpGet({ agent: false, host: '127.0.0.1', port, path: '/pid' }, response => response.resume().on('end', () => resolve('answered')).on('error', () => resolve('cut off')))
            .on('error', (error: NodeJS.ErrnoException) => resolve(error.code!))
        })
        counts[came] = (counts[came] ?? 0) + 1
        if (came === 'ECONNREFUSED') await setTimeout(5) // leaves the processor to those that end
      }
    })
    await until(async () => (counts['answered'] ?? 0) > 1000, 'some load')
    child.kill('SIGTERM')
    t.equal((await child).exitCode, 0)
    stopped.abort()
    await Promise.all(clients)
    t.comment(JSON.stringify(counts))
    t.same(Object.keys(counts).sort(), ['ECONNREFUSED', 'answered'])
  })
}

t.test('a burst waits at the port while the workers are busy', async t => {
  const { pids, port } = await fixture(t)
  const workers = [...await pids()]
  for (const pid of workers) process.kill(pid, 'SIGSTOP')
  t.teardown(() => { for (const pid of workers) process.kill(pid, 'SIGCONT') })
  let connected = 0
  const sockets = Array.from({ length: 700 }, () => connect(port, '127.0.0.1', () => { connected++ })) // more than the 511 that Node would let wait
  t.teardown(() => { for (const socket of sockets) socket.destroy() })
  await until(async () => connected === sockets.length, 'all of them to be connected')
})

t.test('a port that is taken is named, and no worker listens on another', async t => {
  const server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const child = start(t, 'plugins/service/workers-app.ts', { PORT: String(port) })
  const ended = await Promise.race([child, setTimeout(10_000, undefined, { ref: false })])
  t.equal(ended?.exitCode, 1)
  t.match(ended?.stderr, `Port ${port} of 127.0.0.1 cannot be bound: EADDRINUSE`)
})

t.test('a worker that is being started makes the app unready, and does not hold up its end', async t => {
  const { child, ready, pids } = await fixture(t, { SLEEPER: '3' })
  let log = ''
  child.stdout.on('data', (text: Buffer) => { log += text })
  const [killed, other] = await pids()
  process.kill(killed!, 'SIGKILL')
  await until(async () => log.includes('sleeping'), 'the third worker to sleep')
  t.match(await ready(), { status: 'not ready', checks: { workers: { ok: false, reason: 'being started: 1 of 2 workers' } } })
  child.kill('SIGTERM')
  t.equal((await child).exitCode, 0)
  const third = [...log.matchAll(/"pid":(\d+).*sleeping/g)].map(([, pid]) => Number(pid)).at(-1)!
  for (const pid of [other!, third]) t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
})

t.test('a worker that hangs: readiness tells, and metrics are refused rather than wrong', async t => {
  const { pids, connection } = await fixture(t)
  const ask = connection()
  const { body: { pid } } = await ask('/pid')
  const hanging = [...await pids()].find(other => other !== pid)!
  process.kill(hanging, 'SIGSTOP')
  t.teardown(() => process.kill(hanging, 'SIGCONT'))
  t.match(await ask('/health/ready'), { status: 503, body: { checks: { workers: { ok: false, reason: 'no answer from 1 of 2 workers' } } } })
  t.match(await ask('/metrics'), { status: 503, body: { code: 'UNAVAILABLE', detail: 'A worker does not answer' } })
  process.kill(hanging, 'SIGCONT')
  t.equal((await ask('/health/ready')).status, 200)
  t.equal((await ask('/metrics')).status, 200)
})

t.test('a primary that hangs is told, and nobody waits for it without end', async t => {
  const { child, pids, connection } = await fixture(t)
  await pids()
  const clients = [connection(), connection()] as const
  await Promise.all(clients.map(async ask => await ask('/pid')))
  child.kill('SIGSTOP')
  const [ready, metrics] = await Promise.all([clients[0]('/health/ready'), clients[1]('/metrics')])
  t.match(ready, { status: 503, body: { checks: { mood: { ok: true }, workers: { ok: false, reason: 'The primary process does not answer' } } } })
  t.match(metrics, { status: 503, body: { code: 'UNAVAILABLE', detail: 'The primary process does not answer' } })
})

t.test('a primary that is killed leaves nobody behind', async t => {
  const { child, pids, connection } = await fixture(t)
  const workers = await pids()
  const clients = Array.from({ length: 4 }, connection)
  await Promise.all(clients.map(async ask => await ask('/pid')))
  const slow = clients.slice(0, 2).map(async ask => (await ask('/slow')).status)
  await setTimeout(100) // they are on their way
  child.kill('SIGKILL')
  const asked = [clients[2]!('/metrics'), clients[3]!('/health/ready')].map(async reply => (await reply).status)
  t.same(await Promise.all(slow), [200, 200], 'they answer what they had accepted')
  t.same(await Promise.all(asked), [503, 503], 'also what nobody can know any more')
  await until(async () => [...workers].every(pid => !runs(pid)), 'the workers to end')
})

t.test('the query service in two processes, over gRPC and HTTP', async t => {
  const settings = await stores(t)
  await emptyReadModels(settings)
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

t.test('queued commands at a gateway in two processes: done once, in order for each aggregate, and told by whichever is asked', async t => {
  const settings = await stores(t)
  const port = await getPort()
  start(t, 'apps/gateway/main.ts', { POSTGRES_URL: settings.POSTGRES_URL, KAFKA_BROKERS: settings.KAFKA_BROKERS, EVENTS_TOPIC: settings.EVENTS_TOPIC, GATEWAY_PORT: String(port) })
  // Each request over a connection of its own, so that both workers get some.
  const send = async (method: string, path: string, prefer: string, body?: object) => await fetch(`http://127.0.0.1:${port}${path}`, { method, headers: { connection: 'close', prefer, ...body && { 'content-type': 'application/json' } }, ...body && { body: JSON.stringify(body) } })
  const queue = async (method: string, path: string, body: object) => await until(async () => {
    const response = await send(method, path, 'respond-async', body)
    return response.status === 202 && await response.json() as { id: string, command: string }
  }, 'the queue to accept')
  /** Asked for at several connections at once, of which some are to the worker that does not do it. */
  const outcomes = async (command: string) => {
    const begun = Date.now()
    const told = await Promise.all(Array.from({ length: 4 }, async () => (await send('GET', `/commands/${command}`, 'wait=30')).json()))
    t.ok(Date.now() - begun < 25_000, 'they were told before the wait was over')
    return told
  }
  const admin = kafkaFor(settings).admin()
  await admin.connect()
  t.teardown(async () => await admin.disconnect())
  const group = `bifold-commands.${new URL(settings.POSTGRES_URL).pathname.slice(1)}.${settings.EVENTS_TOPIC}.commands`
  await until(async () => {
    const { groups: [found] } = await admin.describeGroups([group])
    return found!.state === 'Stable' && found!.members.length === 2
  }, 'both workers to share the partitions')
  const prices = Array.from({ length: 10 }, (_, n) => n + 1)
  const ids = await Promise.all(Array.from({ length: 12 }, async () => {
    const { id } = await queue('POST', '/books', { title: 'Emma', authors: ['Jane Austen'] })
    const commands = []
    for (const price of prices) commands.push((await queue('PATCH', `/books/${id}`, { price })).command)
    t.match(await Promise.all(commands.map(outcomes)), prices.map(price => Array(4).fill({ status: 'succeeded', result: { version: price + 1 } })))
    return id
  }))
  const db = connectPostgres(settings.POSTGRES_URL, 1)
  t.teardown(async () => await db.destroy())
  const { rows } = await sql<{ prices: (number | null)[] }>`select json_agg((value->'data'->>'price')::int order by position) as prices from events group by aggregate_id`.execute(db)
  t.same(rows.map(row => row.prices), ids.map(() => [null, ...prices]))
})

t.test('of two projectors the one without partitions is ready, and they have one set of metrics', async t => {
  const settings = await stores(t)
  const kafka = kafkaFor(settings)
  const [admin, producer] = [kafka.admin(), kafka.producer()]
  await admin.connect()
  await admin.createTopics({ topics: [{ topic: settings.EVENTS_TOPIC, numPartitions: 1 }] })
  await producer.connect()
  await producer.send({ topic: settings.EVENTS_TOPIC, messages: Array.from({ length: 5 }, () => ({ value: 'nobody can read this' })) })
  await producer.disconnect()
  await admin.disconnect()
  const port = await getPort()
  start(t, 'apps/projector/main.ts', { POSTGRES_URL: settings.POSTGRES_URL, KAFKA_BROKERS: settings.KAFKA_BROKERS, MONGO_URL: settings.MONGO_URL, EVENTS_TOPIC: settings.EVENTS_TOPIC, PROJECTOR_PORT: String(port) })
  const get = async (path: string) => await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } })
  await until(async () => (await get('/health/ready')).ok, 'both projectors')
  for (let n = 0; n < 4; n++) await until(async () => /^bifold_projector_dead_letters_total 5$/m.test(await (await get('/metrics')).text()), 'the count of one, whichever answers')
})

t.test('the relay stays one process, and says so', async t => {
  const settings = await stores(t)
  const port = await getPort()
  const child = start(t, 'apps/relay/main.ts', { LOG_LEVEL: 'info', KAFKA_BROKERS: settings.KAFKA_BROKERS, POSTGRES_URL: settings.POSTGRES_URL, EVENTS_TOPIC: settings.EVENTS_TOPIC, RELAY_PORT: String(port) })
  let log = ''
  child.stdout.on('data', (text: Buffer) => { log += text })
  await until(async () => (await fetch(`http://127.0.0.1:${port}/health/ready`)).ok, 'the relay')
  t.match(log, /"workers":2,"msg":"it stays one process, whatever WORKERS says"/)
  t.same(new Set([...log.matchAll(/"pid":(\d+)/g)].map(([, pid]) => Number(pid))), new Set([child.pid]))
  child.kill('SIGTERM')
  t.equal((await child).exitCode, 0)
})

function runs (pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
