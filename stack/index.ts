/** The local stack: PostgreSQL, Kafka and MongoDB brought up side by side, taken down, and asked how they are. */
import { randomInt } from 'node:crypto'
import { join, resolve } from 'node:path'
import getPort from 'get-port'
import { Listr, type ListrRendererValue } from 'listr2'
import { composeRemove, composeStop, composeUp, dockerAnswers } from './docker.ts'
import {
  checkDiskSpace, createFolder, folderAt, locked, readRecord, removeData, removeEnv, removeIfEmpty, root, writeEnv, writeRecord,
  type Folder, type ServerRecord, type StackRecord
} from './folder.ts'
import { kafka } from './kafka-server.ts'
import { anyRuns, bringUp, stopStrays, takeDown, type Found } from './local.ts'
import { mongo } from './mongo.ts'
import { postgres } from './postgres.ts'
import { logFile, portHolder, portTaken, runningPid } from './processes.ts'
import { exists } from './sources.ts'
import { StackError, type Say, type Server, type ServerName, type StackEnv } from './server.ts'
import { versions } from './settings.ts'

export { readEnv } from './folder.ts'
export { StackError, type ServerName, type StackEnv } from './server.ts'

const servers: Server[] = [postgres, kafka, mongo]
const brokersMax = 3
const releaseWaitMs = 2000 // The children of a PostgreSQL that was killed end some milliseconds after it; 2 s is ample.

export interface UpOptions {
  /** The stack's folder, from the project's root; `.stack` is the one that the applications look into. */
  dir?: string
  /** How many Kafka brokers: those of the stack's data, or 1. */
  brokers?: 1 | 3
  ports?: 'default' | 'free'
  /** How progress is shown; on a terminal it is drawn, elsewhere it is written in plain lines. */
  renderer?: 'default' | 'simple' | 'silent'
  /** Where `POSTGRES_URL` and so on are looked for: a server that is named there is not started. */
  environment?: NodeJS.ProcessEnv
}

export interface Stack {
  env: StackEnv
  /** What this call started, and what `down` should stop if it is to leave things as they were. */
  started: ServerName[]
}

/** How one server of a stack is to be had. */
interface Plan extends Required<Pick<ServerRecord, 'url' | 'ports'>> {
  server: Server
  way: 'given' | 'docker' | 'local'
  /** Whether making the plan has started it already, which Compose does for all at once. */
  started: boolean
}

/** Brings up whichever server is not up, and resolves when all answer. */
export async function up (options: UpOptions = {}): Promise<Stack> {
  const folder = await createFolder(options.dir ?? '.stack')
  return await locked(join(folder.dir, 'lock'), async () => {
    const record = await readRecord(folder) ?? { brokers: options.brokers ?? 1, servers: {} }
    await settleBrokers(folder, record, options)
    const plans = await makePlans(folder, record, options)
    for (const { server, ports, url } of plans) record.servers[server.name] = { ...record.servers[server.name], ports, url }
    writeRecord(folder, record)
    const started = await carryOut(folder, record, plans, options.renderer)
    writeRecord(folder, record)
    const env = Object.fromEntries(plans.map(({ server, url }) => [server.variable, url])) as unknown as StackEnv
    writeEnv(folder, env)
    return { env, started }
  })
}

export interface DownOptions {
  dir?: string
  /** Removes the data, too, if all servers are stopped; downloads are kept. */
  purge?: boolean
  /** Only these, as `up` told that it started them; otherwise all. */
  servers?: ServerName[]
}

/** Stops what the stack runs; nothing to stop is no error. */
export async function down ({ dir = '.stack', purge = false, servers: names }: DownOptions = {}): Promise<void> {
  const folder = await folderAt(dir)
  if (!await exists(folder.dir)) return
  await locked(join(folder.dir, 'lock'), async () => {
    const record = await readRecord(folder)
    const chosen = servers.filter(({ name }) => !names || names.includes(name))
    const all = chosen.length === servers.length
    const inDocker = chosen.filter(({ name }) => record?.servers[name]?.source === 'Docker').map(({ name }) => name)
    if (inDocker.length > 0) await (purge && all ? composeRemove() : composeStop(inDocker))
    await Promise.all(chosen.map(server => takeDown(folder, server, brokersMax)))
    if (all) await removeEnv(folder)
    if (purge && all) return await removeData(folder)
    if (!record) return
    for (const { name } of chosen) delete record.servers[name]?.ports
    writeRecord(folder, record)
  })
  await removeIfEmpty(folder)
}

export interface ServerStatus {
  server: ServerName
  title: string
  answers: boolean
  source: string
  version: string
  url: string
  processes: Array<{ name: string, pid: number | undefined, log: string }>
}

/** How each server is, by asking it. */
export async function status ({ dir = '.stack' }: { dir?: string } = {}): Promise<ServerStatus[]> {
  const folder = await folderAt(dir)
  const record = await readRecord(folder)
  return await Promise.all(servers.map(async server => {
    const { source = '', version = '', url = '' } = record?.servers[server.name] ?? {}
    const own = source !== server.variable && source !== 'Docker'
    const members = own && record ? server.members(record.brokers) : []
    const processes = await Promise.all(members.map(async name => ({ name, pid: await runningPid(folder, name), log: logFile(folder, name) })))
    const runs = url !== '' && processes.every(({ pid }) => pid)
    const answers = runs && await server.answers(url, own ? record!.brokers : 0).then(() => true, () => false)
    return { server: server.name, title: server.title, answers, source, version, url, processes }
  }))
}

/** Kafka's data belongs to a number of brokers; another number needs other data. */
async function settleBrokers (folder: Folder, record: StackRecord, { brokers }: UpOptions): Promise<void> {
  if (brokers === undefined || brokers === record.brokers) return
  if (await exists(join(folder.data, 'kafka-0'))) {
    throw new StackError(`The Kafka data in ${folder.dir} belongs to ${record.brokers} broker(s), not to ${brokers}: run "npm run stack -- down --purge" first, which removes all data, or use another folder with --dir.`)
  }
  record.brokers = brokers
}

/** Decides how each server is to be had, and finds what stands in the way before a local one is started. */
async function makePlans (folder: Folder, record: StackRecord, options: UpOptions): Promise<Plan[]> {
  const { environment = process.env } = options
  const givenTo = ({ name, variable }: Server): string | undefined => {
    const known = record.servers[name]
    const url = environment[variable]
    // The stack's own address may have come back through `.stack/env`; that does not make it another's server.
    return url && (url !== known?.url || known.source === variable) ? url : undefined
  }
  const own = servers.filter(server => !givenTo(server))
  const inDocker = await startInDocker(folder, record, options, own.map(({ name }) => name))
  const plans: Plan[] = []
  for (const server of servers) {
    const given = givenTo(server)
    if (given) {
      if (record.servers[server.name]?.ports) await takeDown(folder, server, record.brokers) // Nobody would use it, or find it again.
      record.servers[server.name] = { source: server.variable, url: given }
      plans.push({ server, way: 'given', ports: [], url: given, started: false })
      continue
    }
    if (record.servers[server.name]?.source === server.variable) delete record.servers[server.name]
    const ports = inDocker ? server.defaultPorts(1) : await choosePorts(folder, server, record, options)
    const started = inDocker?.includes(server.name) ?? false
    plans.push({ server, way: inDocker ? 'docker' : 'local', ports, url: server.url(ports, record.brokers), started })
  }
  return plans
}

/** Has Compose start the servers, and names those that did not run; undefined if they are to be had locally. */
async function startInDocker (folder: Folder, record: StackRecord, options: UpOptions, names: ServerName[]): Promise<ServerName[] | undefined> {
  const { ports = 'default', environment = process.env, renderer } = options
  const sources = Object.values(record.servers).map(({ source }) => source)
  const must = environment.BIFOLD_STACK === 'docker' || sources.includes('Docker')
  const may = folder.dir === resolve(root, '.stack') && ports === 'default' && record.brokers === 1 && sources.length === 0
  if (names.length === 0 || environment.BIFOLD_STACK === 'local') return undefined
  if (!must && !(may && await dockerAnswers())) return undefined
  let started: ServerName[] | undefined
  let failure: unknown
  const task = async () => {
    try {
      started = await composeUp(names)
    } catch (error) {
      failure = error
      throw new Error(must ? 'see below' : 'starting local servers instead', { cause: error })
    }
  }
  await new Listr([{ title: 'Docker Compose', task }], display(renderer)).run()
  if (failure && must) throw failure
  if (failure) await composeRemove().catch(() => {}) // What it has made would hold the ports.
  return started
}

async function choosePorts (folder: Folder, server: Server, record: StackRecord, options: UpOptions): Promise<number[]> {
  const { brokers } = record
  await stopStrays(folder, server, brokers)
  const kept = record.servers[server.name]?.ports
  if (kept && await anyRuns({ folder, server, brokers })) return kept
  await checkDiskSpace(folder)
  const count = server.defaultPorts(brokers).length
  const wanted = kept?.length === count ? kept : server.defaultPorts(brokers)
  const free = options.ports === 'free'
  if (free && wanted !== kept) return await freePorts(count)
  for (const port of wanted) {
    if (!await portTaken(port, kept ? releaseWaitMs : 0)) continue
    if (free) return await freePorts(count)
    throw new StackError(`Port ${port}, which ${server.title} is to listen on, is taken by ${await portHolder(port)}: stop that, or let the stack choose other ports with --free-ports, or set ${server.variable} to use a server that runs already.`)
  }
  return wanted
}

/** From 20,000 on, below the range that the kernel gives to outgoing connections; at random, so that two stacks do not race. */
async function freePorts (count: number): Promise<number[]> {
  const ports: number[] = []
  while (ports.length < count) {
    const candidates = Array.from({ length: 20 }, () => randomInt(20_000, 32_000)) // 20: some will be free.
    ports.push(await getPort({ port: candidates, exclude: ports }))
  }
  return ports
}

/** Signals are for who has called: at a Ctrl-C, listr2 would end the process itself, before what was started is stopped. */
const display = (renderer: ListrRendererValue | undefined) => ({ exitOnError: false, registerSignalListeners: false, ...renderer && { renderer } })

/** Does all plans side by side, with a display; if one fails, what this call has started is stopped again. */
async function carryOut (folder: Folder, record: StackRecord, plans: Plan[], renderer: ListrRendererValue | undefined): Promise<ServerName[]> {
  const started: ServerName[] = []
  const failures: unknown[] = []
  const tasks = plans.map(plan => ({
    title: plan.server.title,
    task: async (_: unknown, task: { title: string, output: string }) => {
      const begin = performance.now()
      const say: Say = doing => { task.output = `${plan.server.title}: ${doing}` }
      try {
        const known = record.servers[plan.server.name]!
        const found: Found = (source, version) => {
          Object.assign(known, { source, version })
          writeRecord(folder, record)
        }
        if (await makes[plan.way](folder, record, plan, say, found)) started.push(plan.server.name)
        const seconds = ((performance.now() - begin) / 1000).toFixed(1)
        // An address from the environment may hold a password, which is not for the screen.
        const where = plan.way === 'given' ? `where ${plan.server.variable} says` : `${known.version} (${known.source}) on ${plan.url}`
        task.title = `${plan.server.title} ${where}, after ${seconds} s`
      } catch (error) {
        failures.push(error)
        throw new Error('see below', { cause: error }) // The display is done before the errors are told, once and in full.
      }
    }
  }))
  await new Listr(tasks, { concurrent: true, ...display(renderer) }).run()
  if (failures.length === 0) return started
  const begun = plans.filter(({ server, way }) => way === 'local' && (started.includes(server.name)))
  await Promise.all(begun.map(({ server }) => takeDown(folder, server, record.brokers)))
  throw failures.length === 1 ? failures[0] : new StackError(failures.map(error => (error as Error).message).join('\n'), { cause: failures })
}

/** Makes one server answer, and tells whether that took starting it. */
type Make = (folder: Folder, record: StackRecord, plan: Plan, say: Say, found: Found) => Promise<boolean>

const makes: Record<Plan['way'], Make> = {
  async given (_folder, _record, { server, url }, say) {
    say(`using ${server.variable}`)
    await server.answers(url, 0).catch((error: Error) => say(`does not answer yet: ${error.message}`))
    return false
  },
  async docker (_folder, record, { server, url, started }, say, found) {
    say('waiting until it answers')
    await server.answers(url, record.brokers)
    found('Docker', versions[server.name])
    return started
  },
  async local (folder, record, { server, ports, url }, say, found) {
    return await bringUp({ folder, server, brokers: record.brokers, ports, url, say, found })
  }
}
