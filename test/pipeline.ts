/** The whole pipeline for a test: the four apps on free ports, with a database, a topic and read models of their own. */
import { randomBytes } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import { credentials } from '@grpc/grpc-js'
import { execa } from 'execa'
import getPort from 'get-port'
import { MongoClient, type Db as MongoDb } from 'mongodb'
import type { Admin } from 'kafkajs'
import pg from 'pg'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { gateway } from '@bifold/gateway/app'
import { connect as connectKafka, ensureTopic } from '@bifold/kafka'
import { modules } from '@bifold/modules'
import { connect as connectPostgres, type Db, type RelayMode } from '@bifold/postgres'
import { projector } from '@bifold/projector/app'
import { booksV1 } from '@bifold/proto'
import { query } from '@bifold/query/app'
import { relay } from '@bifold/relay/app'
import { build } from '@bifold/service'
import { nodeFlags } from '@bifold/tools/apps'
import { down, readEnv, status, up, type ServerName, type StackEnv } from '@bifold/stack'

export type AppName = 'gateway' | 'relay' | 'projector' | 'query'

const apps = { gateway, relay, projector, query }

/** Settings for every app, naming stores that only this test uses. */
export interface Settings {
  HOST: string
  WORKERS: number
  LOG_LEVEL: 'silent'
  POSTGRES_URL: string
  KAFKA_BROKERS: string
  MONGO_URL: string
  EVENTS_TOPIC: string
  RELAY_MODE: RelayMode
  LAG_MAX_SECONDS: number
  TOKEN_SECRET: string
  READ_MODELS: string
  GATEWAY_PORT: number
  RELAY_PORT: number
  PROJECTOR_PORT: number
  QUERY_HTTP_PORT: number
  QUERY_GRPC_PORT: number
}

const testStack = '.stack-test'

const waitMs = 60_000 // for what will not come, on a machine that others keep busy; a healthy pipeline takes milliseconds

/** Waits until `probe` gives something other than undefined or false; rejects with its last error. */
export async function until<T> (probe: () => Promise<T | undefined | false>, what = 'the condition'): Promise<T> {
  const end = Date.now() + waitMs
  let last: unknown
  while (Date.now() < end) {
    try {
      const found = await probe()
      if (found !== undefined && found !== false) return found
    } catch (error) {
      last = error
    }
    await setTimeout(20)
  }
  throw new Error(`waited ${waitMs} ms for ${what}`, { cause: last })
}

/** Servers that only this test uses, to be stopped or frozen at its will; taken down when it ends. Those whose URL is given are not started. */
export async function servers (t: Test, { brokers = 1, given = {} }: { brokers?: 1 | 3, given?: Partial<StackEnv> } = {}): Promise<Servers> {
  const dir = `${testStack}/${randomBytes(4).toString('hex')}`
  t.teardown(async () => await down({ dir, purge: true }))
  const start = async () => { await up({ dir, ports: 'free', brokers, renderer: 'silent', environment: given }) }
  await start()
  const processes = async (name: string) => (await status({ dir })).filter(({ server }) => server === name).flatMap(({ processes }) => processes)
  const signal = async (name: string, signal: NodeJS.Signals) => {
    for (const { pid } of await processes(name)) process.kill(pid!, signal)
  }
  return {
    dir,
    start,
    async stop (name) {
      await signal(name, name === 'postgres' ? 'SIGINT' : 'SIGTERM') // PostgreSQL would wait for every client to leave
      await until(async () => (await processes(name)).every(({ pid }) => pid === undefined), `${name} to end`)
    },
    async killBroker (index) {
      process.kill((await processes('kafka'))[index]!.pid!, 'SIGKILL')
      await until(async () => (await processes('kafka'))[index]!.pid === undefined, 'the broker to end')
    },
    async freeze (name) {
      await signal(name, 'SIGSTOP')
      t.teardown(async () => await signal(name, 'SIGCONT'))
    },
    thaw: async name => await signal(name, 'SIGCONT')
  }
}

export interface Servers {
  readonly dir: string
  /** It hangs: connections stay open, and nothing answers. */
  freeze (name: ServerName): Promise<void>
  thaw (name: ServerName): Promise<void>
  /** It is shut down in an orderly way, and its port refuses connections. */
  stop (name: ServerName): Promise<void>
  /** One of several brokers ends as with kill -9. */
  killBroker (index: number): Promise<void>
  /** Starts whatever is down, and resolves when it answers. */
  start (): Promise<void>
}

/** Stores of a test's own, on the tests' stack or on its own servers; removed when the test ends. */
export async function stores (t: Test, dir = testStack): Promise<Settings> {
  const stack = await readEnv(dir)
  if (stack === undefined) throw new Error("The tests' stack is not up: run `npm test`, or `npx tap FILE`")
  const name = `test_${randomBytes(6).toString('hex')}`
  const named = (url: string) => Object.assign(new URL(url), { pathname: `/${name}` }).toString()
  const settings: Settings = {
    HOST: '127.0.0.1',
    WORKERS: 1,
    LOG_LEVEL: 'silent',
    POSTGRES_URL: named(stack.POSTGRES_URL),
    KAFKA_BROKERS: stack.KAFKA_BROKERS,
    MONGO_URL: named(stack.MONGO_URL),
    EVENTS_TOPIC: name,
    RELAY_MODE: 'wal',
    LAG_MAX_SECONDS: 300,
    TOKEN_SECRET: name,
    READ_MODELS: '',
    GATEWAY_PORT: 0,
    RELAY_PORT: 0,
    PROJECTOR_PORT: 0,
    QUERY_HTTP_PORT: 0,
    QUERY_GRPC_PORT: 0
  }
  const admin = new pg.Pool({ connectionString: stack.POSTGRES_URL, max: 1 })
  admin.on('error', () => {}) // the test may stop PostgreSQL
  await admin.query(`create database ${name}`)
  t.teardown(async () => {
    await until(async () => await admin.query('select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1', [name]), 'the slot to be free')
    await admin.query(`drop database ${name} with (force)`)
    await admin.end()
    const mongo = await MongoClient.connect(settings.MONGO_URL)
    await mongo.db().dropDatabase()
    await mongo.close()
  })
  return settings
}

/** Makes the read models as a projector does when there are no events yet: for a query service without one. */
export async function emptyReadModels ({ MONGO_URL }: Settings): Promise<void> {
  const mongo = await MongoClient.connect(MONGO_URL)
  for (const { collection } of modules.flatMap(({ projections }) => projections)) await mongo.db().createCollection(collection)
  await mongo.close()
}

/** One app on a free port, closed when the test ends. */
export interface RunningApp { readonly app: FastifyInstance, readonly url: string, readonly logs: Record<string, unknown>[] }

export async function startApp (t: Test, name: AppName, settings: Settings, { ready = true } = {}): Promise<RunningApp> {
  const logs: Record<string, unknown>[] = []
  const app = await build(apps[name], settings, { name, logLevel: 'debug', logTo: { write: line => { logs.push(JSON.parse(line)) } } })
  t.teardown(async () => await app.close())
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  if (ready) await until(async () => (await fetch(`${url}/health/ready`)).ok, `${name} to be ready`)
  return { app, url, logs }
}

/** One app as a process of its own, to be killed or stopped as such. */
export interface AppProcess {
  readonly url: string
  readonly port: number
  kill (signal: NodeJS.Signals): void
  readonly ended: Promise<{ exitCode?: number | undefined }>
}

/** On a free port, unless the settings say which; `main` is another program in its place. */
export async function startProcess (t: Test, name: AppName, settings: Settings, main = `apps/${name}/main.ts`): Promise<AppProcess> {
  const port = settings[portOf[name]] || await getPort()
  const env = Object.fromEntries(Object.entries({ ...settings, [portOf[name]]: port }).map(([variable, value]) => [variable, String(value)]))
  const child = execa(process.execPath, [...nodeFlags(name), main], { env, stdin: 'ignore', stdout: 'ignore', stderr: 'inherit', reject: false })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await child
  })
  return { url: `http://127.0.0.1:${port}`, port, kill: signal => { child.kill(signal) }, ended: child }
}

const portOf = { gateway: 'GATEWAY_PORT', relay: 'RELAY_PORT', projector: 'PROJECTOR_PORT', query: 'QUERY_HTTP_PORT' } as const

export interface Pipeline {
  readonly settings: Settings
  /** Base URLs of the gateway and of the query service, and the address of gRPC. */
  readonly gateway: string
  readonly query: string
  readonly grpc: string
  readonly books: booksV1.BookQueryServiceClient
  readonly db: Db
  readonly mongo: MongoDb
  readonly apps: Record<AppName, RunningApp>
  /** Closes an app as SIGTERM would, and starts it again on the same ports. */
  restart (name: AppName, options?: { ready?: boolean }): Promise<void>
  post (url: string, body: unknown, headers?: Record<string, string>): Promise<Reply>
  send (method: string, url: string, body?: unknown, headers?: Record<string, string>): Promise<Reply>
  get (url: string): Promise<Reply>
  /** A figure of an app's /metrics. */
  metric (name: AppName, figure: string): Promise<number>
}

export interface Reply { readonly status: number, readonly headers: Headers, readonly body: any }

/** Starts all four apps and waits until they are ready. */
export async function pipeline (t: Test, dir = testStack): Promise<Pipeline> {
  const settings = await stores(t, dir)
  const names = ['gateway', 'relay', 'projector', 'query'] as const
  const running = Object.fromEntries(await Promise.all(names.map(async name => [name, await startApp(t, name, settings)] as const))) as Record<AppName, RunningApp>
  // A restart takes the same ports again, so that clients find it.
  settings.QUERY_GRPC_PORT = running.query.app.getDecorator<{ port: () => number }>('grpc').port()
  const grpc = `127.0.0.1:${settings.QUERY_GRPC_PORT}`
  const books = new booksV1.BookQueryServiceClient(grpc, credentials.createInsecure())
  const db = connectPostgres(settings.POSTGRES_URL, 2)
  const mongo = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => {
    books.close()
    await db.destroy()
    await mongo.close()
  })
  const send = async (method: string, url: string, body?: unknown, headers: Record<string, string> = {}) => await request(`${running.gateway.url}${url}`, {
    method, headers: { ...body === undefined ? {} : { 'content-type': 'application/json' }, ...headers }, ...body === undefined ? {} : { body: JSON.stringify(body) }
  })
  return {
    settings,
    get gateway () { return running.gateway.url },
    get query () { return running.query.url },
    grpc,
    books,
    db,
    mongo: mongo.db(),
    apps: running,
    send,
    post: async (url, body, headers) => await send('POST', url, body, headers),
    get: async url => await request(`${running.query.url}${url}`, {}),
    metric: async (name, figure) => Number(new RegExp(`^${figure} (.+)$`, 'm').exec(await (await fetch(`${running[name].url}/metrics`)).text())![1]),
    async restart (name, options) {
      await running[name].app.close()
      running[name] = await startApp(t, name, settings, options)
    }
  }
}

async function request (url: string, init: RequestInit): Promise<Reply> {
  const response = await fetch(url, init)
  const text = await response.text()
  return { status: response.status, headers: response.headers, body: text === '' ? undefined : JSON.parse(text) }
}

/** Calls a unary RPC. */
export async function call<Request, Response> (rpc: (request: Request, callback: (error: Error | null, response: Response) => void) => unknown, request: Request): Promise<Response> {
  return await new Promise((resolve, reject) => rpc(request, (error, response) => error === null ? resolve(response) : reject(error)))
}

/** A Kafka client that says nothing. */
export const kafkaFor = ({ KAFKA_BROKERS }: Settings) => connectKafka(KAFKA_BROKERS, { warn () {}, debug () {} } as never)

/** An admin client, with the test's topic. */
export async function topicFor (t: Test, settings: Settings): Promise<Admin> {
  const admin = kafkaFor(settings).admin()
  await admin.connect()
  t.teardown(async () => await admin.disconnect())
  await ensureTopic(admin, settings.EVENTS_TOPIC)
  return admin
}

/** A marker of Kafka's own, which the patched kafkajs shows. */
const isMarker = (message: object) => 'isControlRecord' in message && message.isControlRecord === true

/** Every message of the test's topic, partition by partition, as a plain consumer reads them. */
export async function readTopic (settings: Settings): Promise<{ partition: number, key: string, value: any, headers: Record<string, string> }[]> {
  const kafka = kafkaFor(settings)
  const admin = kafka.admin()
  await admin.connect()
  const left = new Map((await admin.fetchTopicOffsets(settings.EVENTS_TOPIC)).filter(({ low, high }) => low !== high).map(({ partition, high }) => [partition, Number(high)]))
  await admin.disconnect()
  const messages: Awaited<ReturnType<typeof readTopic>> = []
  if (left.size === 0) return messages
  const consumer = kafka.consumer({ groupId: `test-${randomBytes(6).toString('hex')}`, maxWaitTimeInMs: 100 })
  const done = Promise.withResolvers<void>()
  await consumer.connect()
  await consumer.subscribe({ topic: settings.EVENTS_TOPIC, fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ partition, message: { key, value, headers, offset, ...message } }) => {
      const text = value?.toString() ?? ''
      if (!isMarker(message)) messages.push({ partition, key: key?.toString() ?? '', value: text.startsWith('{') ? JSON.parse(text) : text, headers: Object.fromEntries(Object.entries(headers ?? {}).map(([name, header]) => [name, String(header)])) })
      if (Number(offset) >= left.get(partition)! - 1) left.delete(partition)
      if (left.size === 0) done.resolve()
    }
  })
  await done.promise
  await consumer.disconnect()
  return messages
}
