/**
 * Sends what the topic lacks, by the table `events` and by what the topic holds: when the stream cannot simply go on, as after the
 * loss of the replication slot, after a restored backup, with a new topic.
 */
import type { Admin, Kafka, Producer } from 'kafkajs'
import pg from 'pg'
import { partitionOf } from '@bifold/kafka'
import { columns } from './poll.ts'
import { batchMax, outgoing, sequenceOf } from './queue.ts'
import { sendAll } from './send.ts'
import type { Row } from './stream.ts'
import { readRanges, tailOf, type Tail } from './tail.ts'

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
  const { url, until, position } = options
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectMs, application_name: 'bifold-relay' })
  client.on('error', () => {}) // what is asked next fails, and tells
  await client.connect()
  try {
    await client.query('begin isolation level repeatable read')
    if ('snapshot' in until) await client.query(`set transaction snapshot '${until.snapshot}'`)
    await client.query('create temporary table sent (id uuid, version integer, time timestamptz) on commit drop')
    const partitions = await noteSent(options, client)
    await client.query('analyze sent')
    const same = 'aggregate_id = id and events.version = sent.version and date_trunc(\'milliseconds\', events.time) = sent.time'
    const { rows: [unknown] } = await client.query<{ count: number }>(`select count(*) as count from sent where not exists (select from events where ${same})`)
    await client.query(`declare missing no scroll cursor for select ${columns} from events
      where position > ${position} ${'position' in until ? `and position <= ${until.position}` : ''} and not exists (select from sent where ${same}) order by events.position`)
    const sent = await sendMissing(options, client, partitions)
    await client.query('commit')
    return { sent, unknown: unknown!.count }
  } finally {
    await client.end().catch(() => {})
  }
}

/** Writes down what the topic has had since. */
async function noteSent ({ kafka, admin, topic, offsets }: CatchUpOptions, client: pg.Client): Promise<number> {
  const ends = await admin.fetchTopicOffsets(topic)
  const ranges = ends.map(({ partition, low, high }) => ({ partition, from: BigInt(Math.max(Number(low), offsets[partition] ?? 0)), high: BigInt(high) })).filter(({ from, high }) => from < high)
  let page: Tail[] = []
  const write = async () => {
    const noted = page
    page = []
    await client.query('insert into sent select * from unnest($1::uuid[], $2::integer[], $3::timestamptz[])', [noted.map(({ id }) => id), noted.map(({ version }) => version), noted.map(({ time }) => time)])
  }
  await readRanges(kafka, admin, topic, ranges, async messages => {
    page.push(...messages.map(({ message }) => tailOf(message)).filter(tail => tail !== undefined))
    if (page.length >= pageMax) await write()
  })
  await write()
  return ends.length
}

async function sendMissing ({ producer, topic, epoch, signal, sent }: CatchUpOptions, client: pg.Client, partitions: number): Promise<number> {
  const fetchPage = async () => (await client.query<Row>(`fetch ${batchMax} from missing`)).rows
  let count = 0
  for (let rows = await fetchPage(); rows.length > 0;) {
    if (signal.aborted) throw new Error('the relay is being closed')
    const messages = rows.map((row, index) => outgoing(row, sequenceOf(epoch, beforeAll, count + index), partitionOf(row['aggregate_id']!, partitions)))
    // The next page is read while this one is sent.
    const [, next] = await Promise.all([sendAll(producer, topic, messages.map(({ message }) => message)), fetchPage()])
    count += rows.length
    sent(rows.length, messages.at(-1)!.position)
    rows = next
  }
  return count
}
