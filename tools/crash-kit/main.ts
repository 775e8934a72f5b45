/** The command line of the crash kit: `npm run crash-kit -- --seconds 120 --seed 7`. */
import { rmSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { Command, InvalidArgumentError, Option } from 'commander'
import getPort from 'get-port'
import { sql } from 'kysely'
import { connect } from '@bifold/postgres'
import { reason } from '@bifold/service'
import { down, up } from '@bifold/stack'
import { appNames, type AppName } from '../apps.ts'
import { countsOf, withCounts, type CountOptions } from '../counts.ts'
import { openFleet, type Counts } from '../fleet.ts'
import { actorsOf } from './actors.ts'
import { bugs, plant } from './bugs.ts'
import { check, verdictTable } from './check.ts'
import { chaos } from './chaos.ts'
import { startLoad } from './load.ts'
import { untilSettled, whyNotReady } from './settle.ts'
import { startWatchers } from './watchers.ts'

interface Options extends CountOptions { seconds: number, seed: number, brokers: 1 | 3, dir: string, bug?: string, keep: boolean }

const clients = 24 // enough that a group commit has several commands of each kind; two cores have work for the servers too
const queuedOfHundred = 10 // enough of them in the queue whenever somebody is killed; each takes its client as long as it waits there
const batchedOfHundred = 10 // with the single ones, of as many commands again
const lendingOfHundred = 20 // beside the books, whose histories are to stay long
const usual: Counts = { gateway: 1, relay: 1, projector: 2, query: 1 } // two that share the partitions, and may both believe that they own one
const againMs = 300 // as a supervisor that wastes no time
const watchers = 4 // two of each filter: each takes the whole catalogue in, and is one more who needs the machine
const host = '127.0.0.1'
const exit = { found: 1, failed: 2 }

const options = withCounts(new Command('crash-kit')
  .description('Kills and pauses every app and server at random under load, then compares each recorded answer, and what watchers were told, with PostgreSQL, the topic and MongoDB. Runs two projectors and one of all else, if nothing else is said. Exits 0 if nothing was lost, doubled, reordered or differing, 1 if anything was, 2 if it could not tell.')
  .option('--seconds <seconds>', 'how long to crash things', positive, 120)
  .option('--seed <number>', 'of what happens when', positive, 1)
  .addOption(new Option('--brokers <count>', 'Kafka brokers').choices(['1', '3']).default(1).argParser(Number))
  .option('--dir <folder>', 'the folder of its own stack', '.stack-crash')
  .addOption(new Option('--bug <name>', 'runs the apps with a bug planted, which it must find').choices(Object.keys(bugs)))
  .option('--keep', 'leaves the data for a look', false))
  .parse().opts<Options>()

try {
  process.exitCode = await run(options) ? 0 : exit.found
} catch (error) {
  console.error(`The crash kit could not tell: ${reason(error)}. The logs are in ${logsIn(options.dir)}.`)
  process.exitCode = exit.failed
}

async function run ({ seconds, seed, brokers, dir, bug, keep, ...given }: Options): Promise<boolean> {
  await down({ dir, purge: true })
  const { env } = await up({ dir, ports: 'free', brokers, environment: {} })
  for (const folder of [logsIn(dir), `${dir}/apps`]) rmSync(folder, { recursive: true, force: true })
  if (bug !== undefined) plant(bug, `${dir}/apps`)
  const counts = { ...usual, ...countsOf(given) }
  const ports = { GATEWAY_PORT: await getPort(), QUERY_HTTP_PORT: await getPort(), QUERY_GRPC_PORT: await getPort(), PROJECTOR_PORT: await getPort(), RELAY_PORT: await getPort() }
  const fleet = await openFleet({ host, ports, env: { ...env, LOG_LEVEL: 'warn' }, logFolder: logsIn(dir), say: () => {}, mains: mainsIn(bug === undefined ? '.' : `${dir}/apps`), pauseMsMax: againMs })
  try {
    await fleet.resize(counts, { ready: false }) // some are hit while they begin for the first time
    const processes = fleet.instances
    const actors = await actorsOf(fleet, dir)
    const urls = { gateways: [`http://${host}:${ports.GATEWAY_PORT}`], queries: [`http://${host}:${ports.QUERY_HTTP_PORT}`] }
    const load = startLoad({ ...urls, clients, seed, queued: queuedOfHundred, batched: batchedOfHundred, lending: lendingOfHundred })
    const watching = startWatchers({ address: `${host}:${ports.QUERY_GRPC_PORT}`, MONGO_URL: env.MONGO_URL, count: watchers, seed })
    const begun = Date.now()
    const say = (line: string) => console.log(`${((Date.now() - begun) / 1000).toFixed(1).padStart(6)} s  ${line}`)
    const told = await chaos({ actors, seconds, seed, ready: async () => await whyNotReady(processes) === '', say })
    const healed = Date.now()
    await actors.heal()
    await setTimeout(1000) // commands meet healthy servers again
    const record = await load.stop()
    const settled = await untilSettled({ processes, due: async () => await due(env.POSTGRES_URL) }, healed, say)
    const watched = await watching.stop()
    const verdict = await check(env, record, settled, urls.queries[0]!, watched)
    console.log(`\n${verdictTable({ seed, seconds, brokers, counts, chaos: told, record, watched, settled, verdict })}`)
    return verdict.every(({ count }) => count === 0)
  } finally {
    for (const { kill } of fleet.instances) kill('SIGCONT') // what is paused could not stop
    await fleet.stop()
    await down({ dir, purge: !keep })
  }
}

/** Beside the data, which are removed. */
function logsIn (dir: string): string {
  return `${dir}/apps-logs`
}

/** The apps of a folder; the projector with one more read model. */
function mainsIn (folder: string): Partial<Record<AppName, string>> {
  return { ...Object.fromEntries(appNames.map(app => [app, `${folder}/apps/${app}/main.ts`])), projector: `${folder}/tools/crash-kit/projector.ts` }
}

/** How many events processes have still to react to. */
async function due (url: string): Promise<number> {
  const db = connect(url, 1)
  try {
    const { rows } = await sql<{ left: number }>`select count(*) as left from process_events`.execute(db)
    return rows[0]!.left
  } finally {
    await db.destroy()
  }
}

function positive (text: string): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1) throw new InvalidArgumentError('It must be an integer from 1.')
  return number
}
