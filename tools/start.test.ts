/** npm start as a process: ready, an app that dies is started again, and SIGTERM leaves nothing running. */
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import t, { type Test } from 'tap'
import getPort from 'get-port'
import { execa } from 'execa'
import { sql } from 'kysely'
import { connect } from '@bifold/postgres'
import { down, status } from '@bifold/stack'
import { stores, until } from '@bifold/test'
import { appNames } from './apps.ts'
import { countsIn } from './control.ts'
import type { StartOptions } from './start.ts'

const running = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

t.test('npm start: ready, an app killed is back, what was accepted is finished, and nothing is left', async t => {
  const settings = await stores(t)
  const [GATEWAY_PORT, RELAY_PORT, PROJECTOR_PORT, QUERY_HTTP_PORT, QUERY_GRPC_PORT] = [await getPort(), await getPort(), await getPort(), await getPort(), await getPort()]
  const env = { ...settings, LOG_LEVEL: 'info', GATEWAY_PORT, RELAY_PORT, PROJECTOR_PORT, QUERY_HTTP_PORT, QUERY_GRPC_PORT }
  const dir = t.testdir()
  const start = execa(process.execPath, ['tools/start.ts', '--dir', dir], { env: Object.fromEntries(Object.entries(env).map(([name, value]) => [name, String(value)])), reject: false, all: true })
  t.teardown(() => start.kill('SIGKILL'))
  let output = ''
  start.all.on('data', (text: Buffer) => { output += text })
  await until(async () => output.includes('Bifold is ready'), 'npm start to be ready')
  t.match(output, new RegExp(`curl -i http://127.0.0.1:${GATEWAY_PORT}/books`), 'it prints a first request to try')

  const gateway = `http://127.0.0.1:${GATEWAY_PORT}`
  // Each line of a log has the pid of its process.
  const pids = appNames.map(name => [...readFileSync(`${dir}/logs/${name}.log`, 'utf8').matchAll(/"pid":(\d+)/g)].map(([, pid]) => Number(pid)).at(-1)!)
  process.kill(pids[appNames.indexOf('relay')]!, 'SIGKILL')
  await until(async () => output.includes('relay ended (SIGKILL) and is started again'), 'the death to be told')
  const post = async (n: number) => await fetch(`${gateway}/books`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ title: `Book ${n}`, authors: ['x'] }) })
  t.equal((await post(0)).status, 201)
  await until(async () => (await (await fetch(`http://127.0.0.1:${QUERY_HTTP_PORT}/books`)).json() as { books: unknown[] }).books.length === 1, 'the book to come through the new relay')

  // Clients that go on until the gateway takes no more connections.
  let acknowledged = 1
  const clients = Array.from({ length: 20 }, async () => {
    for (let n = 1; ; n++) {
      const status = await post(n).then(response => response.status, () => undefined)
      if (status === undefined) return
      t.equal(status, 201)
      acknowledged++
    }
  })
  await until(async () => acknowledged > 100, 'some load')
  t.ok(start.kill('SIGTERM'))
  await Promise.all(clients)
  t.equal((await start).exitCode, 0)
  t.notOk(pids.some(running), 'no app is left')
  t.match(output, /Stopped; the data is kept/)
  const db = connect(settings.POSTGRES_URL, 1)
  const { rows: [counted] } = await sql<{ books: number }>`select count(*) as books from books`.execute(db)
  await db.destroy()
  t.equal(counted!.books, acknowledged, 'every command that was accepted was answered, and every one answered is stored')
})

t.test('npm start -- --gateways 2 …, and npm run scale while it runs', async t => {
  const settings = await stores(t)
  const ports = { GATEWAY_PORT: await getPort(), RELAY_PORT: await getPort(), PROJECTOR_PORT: await getPort(), QUERY_HTTP_PORT: await getPort(), QUERY_GRPC_PORT: await getPort() }
  const env = Object.fromEntries(Object.entries({ ...settings, ...ports, LOG_LEVEL: 'info' }).map(([name, value]) => [name, String(value)]))
  const dir = t.testdir()
  const start = execa(process.execPath, ['tools/start.ts', '--dir', dir, '--gateways', '2', '--relays', '2'], { env, reject: false, all: true })
  t.teardown(() => start.kill('SIGKILL'))
  let output = ''
  start.all.on('data', (text: Buffer) => { output += text })
  await until(async () => /Bifold is ready after .* in 6 processes/.test(output), 'npm start to be ready')
  const scale = async (...args: string[]) => {
    const { stdout, stderr, exitCode } = await execa(process.execPath, ['tools/scale.ts', '--dir', dir, ...args], { reject: false })
    const running = stdout.split('\n').map(line => line.split(/ {2,}/) as [string, string])
    return { text: stdout + stderr, exitCode, names: running.map(([name]) => name).sort(), urls: running.map(([, url]) => url!) }
  }
  t.same((await scale()).names, ['gateway 1', 'gateway 2', 'projector 1', 'query 1', 'relay 1', 'relay 2'])
  const scaled = await scale('--gateways', '1', '--projectors', '2', '--queries', '2')
  t.same(scaled.names, ['gateway 1', 'projector 1', 'projector 2', 'query 1', 'query 2', 'relay 1', 'relay 2'], scaled.text)
  for (const url of scaled.urls) t.equal((await fetch(`${url}/health/live`)).status, 200, `${url} tells how it is`)
  t.equal((await fetch(`${scaled.urls[0]}/books`, { method: 'POST' })).status, 404, 'and does nothing else there')
  t.equal((await fetch(`http://127.0.0.1:${ports.RELAY_PORT}/metrics`)).status, 200, 'a relay is at its port')

  t.match(await scale('--gateways', '0'), { exitCode: 1, text: /must be an integer from 1 to 16/ })
  t.match(await scale('--dir', t.testdirName + '-nowhere'), { exitCode: 1, text: /No npm start runs in/ })
  t.throws(() => countsIn({ gateway: 99 }), { message: 'There must be 1 to 16 of gateway' })
  t.throws(() => countsIn({ door: 1 }), { message: 'There is no app door' })
  t.ok(start.kill('SIGTERM'))
  t.equal((await start).exitCode, 0, output)
  t.match(await scale(), { exitCode: 1, text: /No npm start runs in/ })
})

t.test('an app that answers but is not ready stops nothing; one that does not answer does', async t => {
  const dir = t.testdir({
    'own.ts': app('OWN_PORT', 200, {}),
    'relay.ts': app('RELAY_PORT', 200, {}),
    'old.ts': app('PROJECTOR_PORT', 503, { mongo: { ok: true }, 'read models': { ok: false, reason: 'run "npm run rebuild"' } }),
    'mute.ts': 'setInterval(() => {}, 1000)'
  })
  const mains = { gateway: `${dir}/own.ts`, relay: `${dir}/relay.ts`, projector: `${dir}/old.ts`, query: `${dir}/own.ts` }
  const waiting = await startHere(t, { dir, readyMs: 5000, mains })
  await until(async () => waiting.output().includes('Ctrl-C stops everything'), 'npm start to go on')
  t.match(waiting.output(), /The projector 1 is not ready after 5 s: read models: run "npm run rebuild"\n/)
  t.notMatch(waiting.output(), 'Bifold is ready')
  t.ok(waiting.child.kill('SIGINT'))
  t.equal((await waiting.child).exitCode, 0, waiting.output())

  const failing = await startHere(t, { dir, readyMs: 5000, mains: { ...mains, gateway: `${dir}/mute.ts` } })
  t.equal((await failing.child).exitCode, 1)
  t.match(failing.output(), 'The gateway 1 is not ready after 5 s: it does not answer')
})

t.test('Ctrl-C while the servers are started stops those, too', async t => {
  const dir = t.testdir()
  t.teardown(async () => await down({ dir, purge: true }))
  const { child, output } = await startHere(t, { dir, servers: { ports: 'free', environment: {} } })
  await until(async () => output().includes('MongoDB: starting'), 'a server to be started')
  t.ok(child.kill('SIGINT'))
  t.equal((await child).exitCode, 0, output())
  t.match(output(), /Stopping …[^]*Stopped; the data is kept/)
  const processes = (await status({ dir })).flatMap(({ processes }) => processes)
  t.ok(processes.length > 0 && processes.every(({ pid }) => pid === undefined), 'no server is left')
})

t.test('a port that is taken is said before anything is started', async t => {
  const settings = await stores(t)
  const taken = await takenPort(t)
  const { exitCode, stderr } = await execa(process.execPath, ['tools/start.ts', '--dir', t.testdir()], { env: { ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, String(value)])), GATEWAY_PORT: String(taken) }, reject: false })
  t.equal(exitCode, 1)
  t.equal(stderr, `Port ${taken} is taken: stop what listens there, or set GATEWAY_PORT to another port.`)
})

t.test('a setting that is wrong is named', async t => {
  const { exitCode, stderr } = await execa(process.execPath, ['apps/gateway/main.ts'], { env: { BIFOLD_ENV_FILE: '/nowhere', POSTGRES_URL: 'postgres://bifold:secret#1@127.0.0.1/bifold', GATEWAY_PORT: 'http', LOG_LEVEL: 'loud' }, reject: false })
  t.equal(exitCode, 1)
  t.match(stderr, /Settings: .*GATEWAY_PORT must be integer/)
  t.match(stderr, 'POSTGRES_URL must be a URL such as postgres://user:password@host:5432/database, where # and / in the password are written %23 and %2F')
  t.notMatch(stderr, 'secret')
  const missing = await execa(process.execPath, ['apps/relay/main.ts'], { env: { BIFOLD_ENV_FILE: '/nowhere' }, extendEnv: false, reject: false })
  t.match(missing.stderr, /POSTGRES_URL is not set.*npm run stack -- up/s)
})

/** A program in the place of an app's own, which answers for ever that it is ready, or why not. */
function app (port: string, status: number, checks: object): string {
  return `
  import { createServer } from 'node:http'
  createServer((_, response) => response.writeHead(${status}).end(JSON.stringify(${JSON.stringify({ checks })}))).listen(process.env.${port}, '127.0.0.1')`
}

/** npm start with what its command line has no options for. */
async function startHere (t: Test, options: StartOptions) {
  const ports = { GATEWAY_PORT: await getPort(), RELAY_PORT: await getPort(), PROJECTOR_PORT: await getPort(), QUERY_HTTP_PORT: await getPort(), QUERY_GRPC_PORT: await getPort() }
  const env = Object.fromEntries(Object.entries({ ...await stores(t), ...ports }).map(([name, value]) => [name, String(value)]))
  const script = `const { start } = await import('./tools/start.ts'); await start(${JSON.stringify(options)})`
  const child = execa(process.execPath, ['--input-type=module', '--eval', script], { env, reject: false, all: true })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  child.all.on('data', (text: Buffer) => { output += text })
  return { child, output: () => output }
}

async function takenPort (t: Test): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  return (server.address() as { port: number }).port
}
