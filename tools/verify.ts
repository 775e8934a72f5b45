/** The command line of the comparison of PostgreSQL with MongoDB: `npm run verify`. */
import { setTimeout } from 'node:timers/promises'
import { Command, InvalidArgumentError } from 'commander'
import { modules } from '@bifold/modules'
import { connect as connectMongo } from '@bifold/mongo'
import { connect as connectPostgres, isOutage } from '@bifold/postgres'
import { loadConfig, reason, setting } from '@bifold/service'
import { comparable, compare, type Comparison, type Difference } from './compare.ts'

const exit = { differing: 1, failed: 2 }
const againMs = 500 // the projector is some 10 ms behind; a backlog takes seconds
const valueCharactersMax = 120 // a line on a screen
const sentences: Record<Difference['kind'], string> = { missing: 'is missing in MongoDB', extra: 'is in MongoDB only', differing: 'differs' }

await new Command('verify')
  .description('Compares every record of PostgreSQL with its document in MongoDB. Exits 0 only if all are equal, 1 on a difference, 2 if it could not compare.')
  .option('--wait <seconds>', 'compare again until all are equal, at most for so long: for a projector that is still at it', seconds, 0)
  .action(run)
  .parseAsync()

async function run ({ wait }: { wait: number }): Promise<void> {
  try {
    const { POSTGRES_URL, MONGO_URL } = loadConfig({ POSTGRES_URL: setting.postgres('The write side'), MONGO_URL: setting.mongo('The read side') })
    const comparisons = await compareAll(POSTGRES_URL, MONGO_URL, performance.now() + wait * 1000)
    print(comparisons)
    if (!comparisons.every(isEqual)) process.exitCode = exit.differing
  } catch (error) {
    console.error(reason(error))
    process.exitCode = exit.failed
  }
}

async function compareAll (postgresUrl: string, mongoUrl: string, untilMs: number): Promise<Comparison[]> {
  const mongo = mongoAt(mongoUrl)
  const db = connectPostgres(postgresUrl, 1)
  try {
    while (true) {
      const comparisons: Comparison[] = []
      for (const aggregate of comparable(modules)) comparisons.push(await compare(db, mongo.db(), aggregate))
      if (comparisons.every(isEqual) || performance.now() + againMs > untilMs) return comparisons
      await setTimeout(againMs)
    }
  } catch (cause) {
    throw explained(cause, postgresUrl, mongoUrl)
  } finally {
    await Promise.allSettled([db.destroy(), mongo.close()])
  }
}

function mongoAt (url: string): ReturnType<typeof connectMongo> {
  try {
    return connectMongo(url, 1)
  } catch (cause) {
    throw new Error(`MONGO_URL: ${reason(cause)}`, { cause })
  }
}

function isEqual ({ missing, extra, differing }: Comparison): boolean {
  return missing + extra + differing === 0
}

/** The error with the server it is about, and what to do; without the URL's password. */
function explained (cause: unknown, postgresUrl: string, mongoUrl: string): Error {
  const { code, name = '' } = cause as { code?: string, name?: string }
  const start = 'Bring up the local servers with "npm run stack -- up", or set the right address'
  if (name.startsWith('Mongo')) return new Error(`MongoDB at ${place(mongoUrl)}: ${reason(cause)}. ${start} in MONGO_URL.`, { cause })
  const where = `PostgreSQL at ${place(postgresUrl)}: ${reason(cause)}`
  if (isOutage(cause) || code === '3D000') return new Error(`${where}. ${start} in POSTGRES_URL.`, { cause })
  if (code === '42P01') return new Error(`${where}. The gateway makes the tables when it starts: "npm run gateway".`, { cause })
  return new Error(where, { cause })
}

function place (url: string): string {
  return url.replace(/^[^:]*:\/\/([^@/]*@)?/, '').replace(/\?.*/, '')
}

function print (comparisons: readonly Comparison[]): void {
  const head = ['', 'PostgreSQL', 'MongoDB', 'equal', 'missing', 'extra', 'differing']
  const rows = comparisons.map(({ name, postgres, mongo, equal, missing, extra, differing }) =>
    [name, ...[postgres, mongo, equal, missing, extra, differing].map(count => count.toLocaleString('en-US'))])
  const widths = head.map((title, column) => Math.max(...[head, ...rows].map(row => row[column]!.length), title.length))
  for (const row of [head, ...rows]) console.log(row.map((cell, column) => column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]! + 2)).join(''))
  for (const { name, missing, extra, differing, differences } of comparisons) {
    if (differences.length === 0) continue
    const all = missing + extra + differing
    console.log(`\n${name}: ${differences.length < all ? `the first ${differences.length} of ${all.toLocaleString('en-US')} differences` : 'the differences'}`)
    for (const difference of differences) console.log(described(difference))
  }
  console.log(comparisons.every(isEqual) ? '\nEqual: every record of PostgreSQL is in MongoDB as it is, and nothing else.' : '\nNot equal.')
}

function described ({ id, kind, fields }: Difference): string {
  return [`  ${typeof id === 'string' ? id : shown(id)} ${sentences[kind]}`, ...fields.map(({ field, postgres, mongo }) => `    ${field}: PostgreSQL ${shown(postgres)}, MongoDB ${shown(mongo)}`)].join('\n')
}

function shown (value: unknown): string {
  const text = JSON.stringify(value) ?? 'has none'
  return text.length > valueCharactersMax ? `${text.slice(0, valueCharactersMax)}…` : text
}

function seconds (text: string): number {
  const value = Number(text)
  if (!(value >= 0 && value <= 86_400)) throw new InvalidArgumentError('It must be a number of seconds, at most a day.')
  return value
}
