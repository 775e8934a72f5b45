/**
 * Reads the event log by asking for what is new: for databases without logical replication.
 *
 * In the order of positions, and only up to where all of them are settled; the positions of an aggregate rise with its versions,
 * since its row is locked from before they are given until the commit.
 */
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import { hex } from '@bifold/cqrs'
import { bounded, settledPosition } from '@bifold/postgres'
import { part } from './parting.ts'
import { placeAfter, type EventStream, type Row, type StreamHandlers } from './stream.ts'

const everyMs = 20 // an event waits for half of it on average, and PostgreSQL answers "nothing new" in 0.1 ms
const pageMax = 1000 // events, some 1 MB
const connectMs = 5000 // as everywhere

/** An event's time as text, as it stands in the header of its message. */
export const isoTime = 'to_char(events.time at time zone \'UTC\', \'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\')'

/** What the relay reads of an event, as text. */
export const columns = `events.position::text, aggregate, aggregate_id::text, events.version::text, type, schema_version::text, value::text, request_id, traceparent, ${isoTime} as time`

const pageQuery = bounded(`select ${columns}, events.position as at from events where position > $1 and position <= $2 order by events.position limit ${pageMax}`, 'at')

/** Opens a stream of all events after a position. */
export async function pollEvents ({ url, after }: { url: string, after: number }, handlers: StreamHandlers): Promise<EventStream> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectMs, application_name: 'bifold-relay' })
  const end = Promise.withResolvers<void>()
  end.promise.catch(() => {}) // whoever waits for it hears of it
  client.on('error', end.reject)
  await client.connect()
  const closing = new AbortController()
  const at = { paused: false, last: after }

  const stream: EventStream = {
    confirm () {}, // what is confirmed is kept in the relay's checkpoint
    pause () { at.paused = true },
    resume () { at.paused = false },
    ended: end.promise,
    async close () {
      closing.abort()
      await part(client, end.promise)
    }
  }

  const page = async (upTo: number) => {
    const { rows } = await client.query<Row>(pageQuery, [at.last, upTo])
    at.last = rows.length === 0 ? upTo : Number(rows.at(-1)!['position'])
    for (const row of rows) {
      const position = Number(row['position'])
      handlers.committed({ place: hex(position, 16), end: placeAfter(position), rows: [row] }, stream)
    }
  }

  const run = async () => {
    while (!closing.signal.aborted) {
      const settled = at.paused ? at.last : await settledPosition(client, closing.signal)
      while (at.last < settled && !at.paused && !closing.signal.aborted) await page(settled)
      if (!at.paused) handlers.reached(placeAfter(at.last), stream)
      await setTimeout(everyMs, undefined, { signal: closing.signal }).catch(() => {})
    }
  }
  run().catch((error: unknown) => { if (!closing.signal.aborted) throw error }).then(end.resolve, end.reject)
  return stream
}
