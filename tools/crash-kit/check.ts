/** Compares what was answered, and told to watchers, with PostgreSQL, the topic and MongoDB. */
import { isDeepStrictEqual } from 'node:util'
import { sql } from 'kysely'
import { request } from 'undici'
import { modules } from '@bifold/modules'
import { connect as connectMongo } from '@bifold/mongo'
import { connect as connectPostgres, type Db } from '@bifold/postgres'
import { appNames } from '../apps.ts'
import { comparable, compare, compareRows, type ReadSide } from '../compare.ts'
import type { Counts } from '../fleet.ts'
import type { Told } from './chaos.ts'
import { kinds } from './client.ts'
import { halfDone, lentTooOften, wrongRecalls, type Event } from './lending-check.ts'
import type { Record } from './load.ts'
import { doneTooSoon, type Succeeded } from './queue-check.ts'
import type { Settled } from './settle.ts'
import { readTopic, type Message } from './topic.ts'
import { views } from './views.ts'
import { unwatched, type Watched } from './watchers.ts'

export interface Finding { readonly what: string, readonly count: number, readonly first: readonly string[] }

interface Count { readonly _id: string, readonly events: number, readonly versions: number }

const readsMax = 100 // at once; each process of the query service has some of them
const shownMax = 3 // of each kind; the data are there for a look with --keep

/** Where the events, the messages and the read models are. */
export interface Stores { readonly POSTGRES_URL: string, readonly KAFKA_BROKERS: string, readonly MONGO_URL: string, readonly EVENTS_TOPIC?: string }

/** Every way in which a promise can be broken, and how often it was; `queries` is the URL of a query service that is well. */
export async function check (env: Stores, record: Record, settled: Settled, queries: string, watched: Watched = unwatched): Promise<Finding[]> {
  const db = connectPostgres(env.POSTGRES_URL, 1)
  const mongo = connectMongo(env.MONGO_URL, 1)
  try {
    const { rows } = await sql<Event>`select aggregate_id as id, version, type, coalesce(value->'event', value->'data') as data from events order by position`.execute(db)
    const { rows: succeeded } = await sql<Succeeded>`select id, aggregate_id, version from queued_commands where aggregate_id is not null`.execute(db)
    const messages = await readTopic(env.KAFKA_BROKERS, env.EVENTS_TOPIC)
    return [
      finding('away: what did not recover', settled.unsettled === undefined ? [] : [settled.unsettled]),
      finding('lost: answered, but not in PostgreSQL', lostAnswers(record, rows)),
      finding('lost: in PostgreSQL, but not on the topic', missing(rows, messages)),
      finding('lost: in what a watcher was told', watched.lost),
      finding('lost or doubled: recalls of withdrawn books', wrongRecalls(rows)),
      finding('lost or doubled: half of what a loan and its member share', halfDone(rows)),
      finding('doubled: two answers for one version', doubledAnswers(record)),
      finding('doubled: done, but nobody asked', uncalledFor(record, rows)),
      finding('doubled: twice on the topic', doubledMessages(messages)),
      finding('doubled: for a watcher', watched.doubled),
      finding('doubled: books that are out twice, loans beyond five', lentTooOften(rows)),
      finding('reordered: on the topic', reordered(messages)),
      finding('reordered: in the queue of commands', doneTooSoon(record.queued, succeeded)),
      finding('reordered: for a watcher', watched.reordered),
      finding('reordered, or wrong: for a client', record.wrong),
      finding('differing: counters from PostgreSQL', miscounted(rows, await mongo.db().collection<Count>('counts').find({}).toArray())),
      finding('unanswered: commands, when all was well', Array.from({ length: record.unknown }, () => 'no answer within a minute')),
      finding('unanswered: reads, when all was well', await unanswered(queries, record)),
      finding('kept aside: dead letters', (await mongo.db().collection('deadLetters').find({}).toArray()).map(({ _id, reason }) => `${String(_id)}: ${reason}`)),
      finding('differing: MongoDB from PostgreSQL', await differing(db, mongo.db() as never))
    ]
  } finally {
    await Promise.allSettled([db.destroy(), mongo.close()])
  }
}

const finding = (what: string, broken: readonly string[]): Finding => ({ what, count: broken.length, first: broken.slice(0, shownMax) })
const named = ({ id, version }: { id: string, version: number }) => `${id}/${version}`

function lostAnswers ({ answered }: Record, events: readonly Event[]): string[] {
  const stored = new Map(events.map(event => [named(event), event]))
  return answered.filter(answer => {
    const event = stored.get(named(answer))
    return event === undefined || event.type !== kinds[answer.kind].event || Object.entries(answer.data).some(([field, value]) => !isDeepStrictEqual(event.data[field], value))
  }).map(answer => `${answer.kind} ${named(answer)}`)
}

function missing (events: readonly Event[], messages: readonly Message[]): string[] {
  const sent = new Set(messages.map(named))
  return events.map(named).filter(name => !sent.has(name))
}

function doubledAnswers ({ answered }: Record): string[] {
  const seen = new Set<string>()
  return answered.map(named).filter(name => seen.size === seen.add(name).size)
}

/** Events beyond those answered; of those whose answer was given up another finding tells. What follows from another event is looked at with that. */
function uncalledFor ({ answered }: Record, events: readonly Event[]): string[] {
  const known = new Set(answered.map(named))
  const types = new Set<string>(Object.values(kinds).map(({ event }) => event))
  return events.filter(({ type }) => types.has(type)).map(named).filter(name => !known.has(name))
}

/** Reads of what was written last that get no answer, though all is well again: something of the storm still holds them up. */
async function unanswered (queries: string, { answered }: Record): Promise<string[]> {
  const statuses = await Promise.all(answered.slice(-readsMax).map(async ({ kind, id }) => {
    try {
      const { statusCode, body } = await request(`${queries}${kinds[kind].of}/${id}`)
      await body.dump()
      return { id, status: statusCode }
    } catch (error) {
      return { id, status: (error as Error).message }
    }
  }))
  return statuses.filter(({ status }) => status !== 200 && status !== 404).map(({ id, status }) => `${id}: ${status}`)
}

/** What each aggregate's counters should be, against what they are. */
function miscounted (events: readonly Event[], counts: readonly Count[]): string[] {
  const right = new Map<string, { events: number, versions: number }>()
  for (const { id, version } of events) {
    const before = right.get(id) ?? { events: 0, versions: 0 }
    right.set(id, { events: before.events + 1, versions: before.versions + version })
  }
  const found = new Map(counts.map(count => [count._id, count]))
  return [...new Set([...right.keys(), ...found.keys()])].filter(id => right.get(id)?.events !== found.get(id)?.events || right.get(id)?.versions !== found.get(id)?.versions)
    .map(id => `${id}: ${JSON.stringify(found.get(id))} instead of ${JSON.stringify(right.get(id))}`)
}

/** The read models that can be told from PostgreSQL record by record. */
async function differing (db: Db, mongo: ReadSide): Promise<string[]> {
  const comparisons = await Promise.all([
    ...comparable(modules).map(async aggregate => await compare(db, mongo, aggregate)),
    ...views.map(async ({ name, rows, shown }) => await compareRows(rows(db), mongo, name, shown))
  ])
  return comparisons.flatMap(({ name, missing, extra, differing, differences }) =>
    Array.from({ length: missing + extra + differing }, (_, index) => `${name}: ${JSON.stringify(differences[index] ?? '')}`))
}

function doubledMessages (messages: readonly Message[]): string[] {
  const seen = new Set<string>()
  return messages.map(named).filter(name => seen.size === seen.add(name).size)
}

function reordered (messages: readonly Message[]): string[] {
  const last = new Map<string, number>()
  const broken: string[] = []
  for (const message of messages) {
    const before = last.get(message.id) ?? 0
    if (message.version !== before + 1) broken.push(`${named(message)} after version ${before}`)
    last.set(message.id, message.version)
  }
  return broken
}

export interface Outcome { readonly seed: number, readonly seconds: number, readonly brokers: number, readonly counts: Counts, readonly chaos: Told, readonly record: Record, readonly watched: Watched, readonly settled: Settled, readonly verdict: readonly Finding[] }

/** The outcome as a table. */
export function verdictTable ({ seed, seconds, brokers, counts, chaos, record, watched, settled, verdict }: Outcome): string {
  const rows: [string, string][] = [
    ['seed, seconds, brokers', `${seed}, ${seconds}, ${brokers}`],
    ['gateways, relays, projectors, queries', appNames.map(app => counts[app]).join(', ')],
    ['kills, pauses', `${chaos.kills}, ${chaos.pauses}`],
    ['commands answered, refused, unknown', `${record.answered.length}, ${record.refused}, ${record.unknown}`],
    ['of these through the queue', String(record.queued.length)],
    ['of these in batches', String(record.batched)],
    ['of these of members and loans', String(record.answered.filter(({ kind }) => kinds[kind].of !== '/books').length)],
    ['reads', String(record.reads)],
    ['watchers, snapshots, resumed, changes', `${watched.watchers}, ${watched.snapshots}, ${watched.resumed}, ${watched.changes}`],
    ['settled after', `${(settled.afterMs / 1000).toFixed(1)} s`],
    ...verdict.map(({ what, count }): [string, string] => [what, String(count)])
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  const lines = rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`)
  const details = verdict.flatMap(({ what, first }) => first.map(one => `  ${what}: ${one}`))
  return [...lines, ...details].join('\n')
}
