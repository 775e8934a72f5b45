/**
 * Sends what the topic lacks, by the table `events` and by what the topic holds: when the stream cannot simply go on, as after the
 * loss of the replication slot, after a restored backup, with a new topic.
 */
import type { Admin, Kafka, Producer } from 'kafkajs'
import pg from 'pg'
import { sequenceOf } from '@bifold/cqrs'
import { partitionOf, sendAll } from '@bifold/kafka'
import { bounded } from '@bifold/postgres'
import { columns, isoTime } from './poll.ts'
import { batchMax, outgoing } from './queue.ts'
import type { Row } from './stream.ts'
import { rangesFrom, readRanges, sentOf, type Sent } from './tail.ts'

export interface CatchUpOptions {
  readonly url: string
  readonly kafka: Kafka
  readonly admin: Admin
  readonly producer: Producer
  readonly topic: string
  readonly epoch: number
  /** Every event up to this position is in Kafka; later ones are at these offsets or behind them. */
  readonly position: number
  readonly offsets: readonly number[]
  /** How the log stood where the stream will go on: in a snapshot, or up to a settled position. */
  readonly until: { readonly snapshot: string } | { readonly position: number }
  readonly signal: AbortSignal
  /** Told what was sent: how many events, and the highest of their positions. */
  readonly sent: (events: number, position: number) => void
}

/** What catching up came to. */
export interface CaughtUp {
  readonly sent: number
  /** Events that Kafka has and PostgreSQL does not: it is older than the topic. */
  readonly unknown: number
}

const connectMs = 5000 // as everywhere
const pageMax = 5000 // messages of the topic in one insert
const beforeAll = '0'.repeat(16) // a place before all that the stream will have

/** Sends, in order, each event that the topic lacks. */
export async function catchUp (options: CatchUpOptions): Promise<CaughtUp> {
  const { url, until } = options
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectMs, application_name: 'bifold-relay' })
  client.on('error', () => {}) // what is asked next fails, and tells
  await client.connect()
  try {
    await client.query('begin isolation level repeatable read')
    if ('snapshot' in until) await client.query(`set transaction snapshot '${until.snapshot}'`)
    // What stands in a header is compared as text: a time that is none must not be an error.
    await client.query('create temporary table sent (id uuid, version integer, time text) on commit drop')
    const partitions = await noteSent(options, client)
    await client.query('create index on sent (id, version)')
    await client.query('analyze sent')
    const same = `aggregate_id = id and events.version = sent.version and ${isoTime} = sent.time`
    const { rows: [unknown] } = await client.query<{ count: number }>(`select count(*) as count from sent where not exists (select from events where ${same})`)
    const missing = bounded(`select ${columns}, events.position as at from events
      where position > $1 ${'position' in until ? `and position <= ${until.position}` : ''} and not exists (select from sent where ${same}) order by events.position limit ${batchMax}`, 'at')
    const sent = await sendMissing(options, partitions, async after => (await client.query<Row>(missing, [after])).rows)
    await client.query('commit')
    return { sent, unknown: unknown!.count }
  } finally {
    await client.end().catch(() => {})
  }
}

/** Writes down what the topic has had since. */
async function noteSent ({ kafka, admin, topic, offsets, epoch }: CatchUpOptions, client: pg.Client): Promise<number> {
  const ends = await admin.fetchTopicOffsets(topic)
  let page: Sent[] = []
  const write = async () => {
    const noted = page
    page = []
    await client.query('insert into sent select * from unnest($1::uuid[], $2::integer[], $3::text[])', [noted.map(({ id }) => id), noted.map(({ version }) => version), noted.map(({ time }) => time)])
  }
  await readRanges(kafka, admin, topic, rangesFrom(ends, offsets), async messages => {
    page.push(...messages.map(({ message }) => sentOf(message, epoch)).filter(sent => sent !== undefined))
    if (page.length >= pageMax) await write()
  })
  await write()
  return ends.length
}

async function sendMissing ({ producer, topic, epoch, position, signal, sent }: CatchUpOptions, partitions: number, pageAfter: (position: number) => Promise<Row[]>): Promise<number> {
  let count = 0
  for (let rows = await pageAfter(position); rows.length > 0;) {
    if (signal.aborted) throw new Error('the relay is being closed')
    const messages = rows.map((row, index) => outgoing(row, sequenceOf(epoch, beforeAll, count + index), partitionOf(row['aggregate_id']!, partitions)))
    const last = messages.at(-1)!.position
    // The next page is read while this one is sent.
    const [, next] = await Promise.all([sendAll(producer, topic, messages.map(({ message }) => message)), pageAfter(last)])
    count += rows.length
    sent(rows.length, last)
    rows = next
  }
  return count
}
