/**
 * Reads the event log as it stood at one place of the WAL. A temporary replication slot exports a snapshot with its place
 * (PostgreSQL's manual, "Exported Snapshots"): what was committed before is in it, what was committed later is not, and the
 * sequence of a message tells on which side it stands.
 */
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { messageHeaders, type EventRow } from '@bifold/cqrs'

export interface EventLogSnapshot {
  /** Sorts after the sequences of all events in it, and before those of all others. */
  readonly sequence: string
  readonly count: number
  /** All events, those of an aggregate together and by rising version; `size` of them or fewer at a time. */
  pages (size: number): AsyncGenerator<EventRow[], void, void>
  close (): Promise<void>
}

const connectMs = 5000 // as everywhere

/** @returns undefined if there is no event log yet */
export async function snapshotEvents (url: string): Promise<EventLogSnapshot | undefined> {
  const replication = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectMs, replication: 'database', application_name: 'bifold-snapshot' } as pg.ClientConfig)
  const reading = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectMs, application_name: 'bifold-snapshot' })
  for (const client of [replication, reading]) client.on('error', () => {}) // what is asked next fails, and tells
  const close = async () => { await Promise.allSettled([replication.end(), reading.end()]) }
  try {
    await Promise.all([replication.connect(), reading.connect()])
    const { rows: [table] } = await reading.query<{ there: boolean }>("select to_regclass('events') is not null as there")
    if (!table!.there) {
      await close()
      return undefined
    }
    const { timeline, lsn, snapshot } = await exportSnapshot(replication)
    await reading.query('begin isolation level repeatable read read only')
    await reading.query(`set transaction snapshot '${snapshot}'`)
    const { rows: [counted] } = await reading.query<{ count: number }>('select count(*) as count from events')
    return { sequence: `${timeline}-${lsn}`, count: counted!.count, pages: size => pages(reading, size), close }
  } catch (error) {
    await close()
    throw error
  }
}

/** The snapshot holds until the connection's next statement; the slot until its end. */
async function exportSnapshot (client: pg.Client) {
  const { rows: [system] } = await client.query<{ timeline: number }>('IDENTIFY_SYSTEM')
  const { rows: [slot] } = await client.query<{ consistent_point: string, snapshot_name: string }>(`CREATE_REPLICATION_SLOT "bifold_snapshot_${randomUUID().replaceAll('-', '')}" TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')`)
  const lsn = slot!.consistent_point.split('/').map(half => half.padStart(8, '0')).join('').toLowerCase()
  return { timeline: Number(system!.timeline).toString(16).padStart(8, '0'), lsn, snapshot: slot!.snapshot_name }
}

async function * pages (client: pg.Client, size: number): AsyncGenerator<EventRow[], void, void> {
  // The value as text: what is read is handed on as it was written.
  const query = `select aggregate, aggregate_id as "aggregateId", version, type, value::text as value, request_id as "requestId", traceparent,
    to_char(time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as time
    from events where (aggregate_id, version) > ($1, $2) order by aggregate_id, version limit $3`
  let after: [string, number] = ['00000000-0000-0000-0000-000000000000', 0]
  while (true) {
    const { rows } = await client.query<EventRow>(query, [...after, size])
    if (rows.length > 0) yield rows
    if (rows.length < size) return
    after = [rows.at(-1)!.aggregateId, rows.at(-1)!.version]
  }
}

/** An event of the log as the message that the relay made of it, or will make. */
export const messageOf = (row: EventRow, sequence: string) => ({ key: Buffer.from(row.aggregateId), value: Buffer.from(row.value), headers: messageHeaders(row, sequence) })
