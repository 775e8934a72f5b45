/** What a scenario runs on: the benchmarks' own servers, stores of its own in them, and contenders as processes. */
import { randomBytes } from 'node:crypto'
import { createWriteStream, mkdirSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { execa } from 'execa'
import getPort from 'get-port'
import { connect as connectMongo } from '@bifold/mongo'
import { connect as connectPostgres, migrate, type Db } from '@bifold/postgres'
import { modules } from '@bifold/modules'
import { nodeFlags } from '@bifold/tools/apps'
import { down, up, type StackEnv } from '@bifold/stack'
import type { Db as MongoDb } from 'mongodb'

export const dir = '.stack-bench'

const readyMs = 60_000 // an app that is not ready in a minute will not be
const stopMs = 20_000 // an app closes itself within 15 s
const pollMs = 20

/** The settings of every app, naming stores that only one scenario uses. */
export interface Stores {
  readonly env: Readonly<Record<string, string>>
  readonly topic: string
  readonly db: Db
  readonly mongo: MongoDb
  /** Removes them: what a scenario has left behind is the next one's noise. */
  remove (): Promise<void>
}

export interface Contender {
  readonly url: string
  /** Host and port of its gRPC server, if it has one. */
  readonly grpc: string
  readonly pid: number
  /** A figure of its /metrics, summed over its labels if it is named without. */
  metric (name: string): Promise<number>
  /** All of them at one moment: each asking costs the process a millisecond. */
  metrics (): Promise<(name: string) => number>
  stop (): Promise<void>
}

export interface Environment {
  stores (): Promise<Stores>
  /** Starts an app (`gateway`) or a contender (`constant`), and waits until it is ready. */
  start (name: string, env?: Readonly<Record<string, string>>): Promise<Contender>
  /** Stops and removes what a scenario has left, however it has ended. */
  clear (): Promise<void>
  close (): Promise<void>
}

/** Brings up the servers, fresh. */
export async function makeEnvironment (): Promise<Environment> {
  await down({ dir, purge: true })
  const { env: servers } = await up({ dir, ports: 'free', brokers: 1, renderer: 'silent', environment: {} })
  const left: Left = new Set()
  const clear = async () => {
    for (const remove of [...left].reverse()) await remove().catch(() => {})
  }
  return {
    stores: async () => await makeStores(servers, left),
    start: async (name, env = {}) => await startProcess(name, env, left),
    clear,
    async close () {
      await clear()
      await down({ dir, purge: true })
    }
  }
}

/** How to remove what is still there, in the order in which it was made: first stores, and then who uses them. */
type Left = Set<() => Promise<void>>

async function makeStores (servers: StackEnv, left: Left): Promise<Stores> {
  const name = `bench_${randomBytes(4).toString('hex')}`
  const named = (url: string) => Object.assign(new URL(url), { pathname: `/${name}` }).toString()
  const env = { POSTGRES_URL: named(servers.POSTGRES_URL), KAFKA_BROKERS: servers.KAFKA_BROKERS, MONGO_URL: named(servers.MONGO_URL), EVENTS_TOPIC: name, HOST: '127.0.0.1', LOG_LEVEL: 'warn' }
  const admin = connectPostgres(servers.POSTGRES_URL, 1)
  const { sql } = await import('kysely')
  await sql`create database ${sql.id(name)}`.execute(admin)
  const db = connectPostgres(env.POSTGRES_URL, 2)
  await migrate(db, modules)
  const mongo = connectMongo(env.MONGO_URL)
  const remove = async () => {
    left.delete(remove)
    await db.destroy()
    await sql`select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = ${name} and not active`.execute(admin)
    await sql`drop database ${sql.id(name)} with (force)`.execute(admin)
    await admin.destroy()
    await mongo.db().dropDatabase()
    await mongo.close()
  }
  left.add(remove)
  return { env, topic: name, db, mongo: mongo.db(), remove }
}

async function startProcess (name: string, env: Readonly<Record<string, string>>, left: Left): Promise<Contender> {
  const app = apps[name as keyof typeof apps]
  const [port, grpcPort] = [await getPort(), await getPort()]
  const ports = { ...app === undefined ? { PORT: String(port) } : { [app]: String(port) }, QUERY_GRPC_PORT: String(grpcPort) }
  const script = app === undefined ? `benchmarks/contenders/${name}.ts` : `apps/${name}/main.ts`
  const child = execa(process.execPath, [...profiled(name), ...nodeFlags(name), script], { env: { ...env, ...ports }, stdin: 'ignore', ipc: true, buffer: false, reject: false, forceKillAfterDelay: stopMs })
  mkdirSync(`${dir}/logs`, { recursive: true })
  const log = createWriteStream(`${dir}/logs/${name}.log`, { flags: 'a' })
  child.stdout.pipe(log, { end: false })
  child.stderr.pipe(log, { end: false })
  const url = `http://127.0.0.1:${port}`
  const stop = async () => {
    left.delete(stop)
    child.kill('SIGTERM')
    await child
    log.end()
  }
  left.add(stop) // also of one that does not get ready
  let ended = false
  void child.then(() => { ended = true })
  const end = Date.now() + readyMs
  while (!await answers(`${url}/health/ready`)) {
    if (ended || Date.now() > end) throw new Error(`${name} ${ended ? 'ended' : `is not ready after ${readyMs / 1000} s`}: see ${dir}/logs/${name}.log`)
    await setTimeout(pollMs)
  }
  const metrics = async () => {
    const text = await (await fetch(`${url}/metrics`)).text()
    return (name: string) => sum(text, name)
  }
  return {
    url,
    grpc: `127.0.0.1:${grpcPort}`,
    pid: child.pid!,
    metric: async name => (await metrics())(name),
    metrics,
    stop
  }
}

/** The apps, and the setting that has their port. */
const apps = { gateway: 'GATEWAY_PORT', relay: 'RELAY_PORT', projector: 'PROJECTOR_PORT', query: 'QUERY_HTTP_PORT' } as const

// BENCH_PROFILE=gateway writes a CPU profile of each gateway when it ends.
const profiled = (name: string) => process.env['BENCH_PROFILE'] === name ? ['--cpu-prof', `--cpu-prof-dir=${dir}/profiles`] : []

async function answers (url: string): Promise<boolean> {
  try {
    return (await fetch(url)).ok
  } catch {
    return false
  }
}

function sum (metrics: string, name: string): number {
  const lines = metrics.split('\n').filter(line => line.startsWith(`${name} `) || (!name.includes('{') && line.startsWith(`${name}{`)))
  return lines.reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' '))), 0)
}
