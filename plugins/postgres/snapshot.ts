/**
 * Reads the event log as it stood at one place of the WAL. A temporary replication slot exports a snapshot with its place
 * (PostgreSQL's manual, "Exported Snapshots"): what was committed before is in it, what was committed later is not, and the
 * sequence of a message tells on which side it stands.
 */
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { hex, messageHeaders, sequenceAt, type EventRow } from '@bifold/cqrs'
import { bounded } from './page.ts'
import { settledPosition } from './settled.ts'
import type { RelayCheckpoint } from './tables.ts'

export interface EventLogSnapshot {
  /** Sorts after the sequences of all events in it, and before those of all others. */
  readonly sequence: string
  readonly count: number
  /** All events, by aggregate and rising version, `size` of them or fewer at a time; an aggregate is in several pages only if it fills one. */
  pages (size: number): AsyncGenerator<EventRow[], void, void>
  /**
   * True once all of them are known to be on the topic: what the relay sends from now on is not in the snapshot, whatever happens.
   *
   * @throws if the relay has begun anew: the sequence says nothing any more
   */
  onTopic (): Promise<boolean>
  close (): Promise<void>
}

const connectMs = 5000 // as everywhere
const keepAliveMs = 10_000 // a server that has gone without a word is asked from then on, and given up: a page takes its time, and has no other limit
const checkpointQuery = 'select epoch, mode, position, slot, continuous from relay_checkpoints where topic = $1'

/**
 * @returns undefined if there are no events yet
 * @throws if the relay has never brought the topic up to date
 */
export async function snapshotEvents (url: string, topic: string): Promise<EventLogSnapshot | undefined> {
  const config = { connectionString: url, connectionTimeoutMillis: connectMs, keepAlive: true, keepAliveInitialDelayMillis: keepAliveMs, application_name: 'bifold-snapshot' }
  const replication = new pg.Client({ ...config, replication: 'database' } as pg.ClientConfig)
  const [reading, asking] = Array.from({ length: 2 }, () => new pg.Client(config)) as [pg.Client, pg.Client]
  for (const client of [replication, reading, asking]) client.on('error', () => {}) // what is asked next fails, and tells
  const close = async () => { await Promise.allSettled([replication, reading, asking].map(async client => await client.end())) }
  try {
    await Promise.all([reading.connect(), asking.connect()])
    if (!await hasEvents(asking)) {
      await close()
      return undefined
    }
    const relayed = async () => (await asking.query<RelayCheckpoint>(checkpointQuery, [topic])).rows[0]
    const before = await relayed()
    if (before?.continuous !== true) throw new Error('the relay has not brought the topic up to date yet')
    const cut = before.mode === 'wal' ? await cutAtLsn(replication, reading, asking, before.slot) : await cutAtPosition(reading, relayed)
    const { rows: [counted] } = await reading.query<{ count: number }>(`select count(*) as count from events where position <= ${cut.position}`)
    return {
      sequence: sequenceAt(before.epoch, cut.place),
      count: counted!.count,
      pages: size => pages(reading, cut.position, size),
      async onTopic () {
        // In this order: the relay raises the epoch before it makes another slot.
        const passed = await cut.passed()
        const now = await relayed()
        if (now?.epoch !== before.epoch || !now.continuous) throw new Error('the relay has begun anew meanwhile')
        return passed
      },
      close
    }
  } catch (error) {
    await close()
    throw error
  }
}

async function hasEvents (client: pg.Client): Promise<boolean> {
  const { rows: [table] } = await client.query<{ there: boolean }>("select to_regclass('events') is not null and to_regclass('relay_checkpoints') is not null as there")
  return table!.there && (await client.query('select from events limit 1')).rows.length > 0
}

/** Where the log is cut: the place in sequences, what is before it in the reading transaction, and whether the relay has passed it. */
interface Cut { readonly place: string, readonly position: number, passed (): Promise<boolean> }

const all = Number.MAX_SAFE_INTEGER

async function cutAtLsn (replication: pg.Client, reading: pg.Client, asking: pg.Client, relaySlot: string | null): Promise<Cut> {
  await replication.connect()
  const { lsn, snapshot } = await exportSnapshot(replication)
  await reading.query('begin isolation level repeatable read read only')
  await reading.query(`set transaction snapshot '${snapshot}'`)
  return {
    place: lsn.split('/').map(half => half.padStart(8, '0')).join('').toLowerCase(),
    position: all,
    async passed () {
      const { rows: [slot] } = await asking.query<{ passed: boolean }>('select confirmed_flush_lsn >= $1::pg_lsn as passed from pg_replication_slots where slot_name = $2', [lsn, relaySlot])
      return slot?.passed ?? false
    }
  }
}

async function cutAtPosition (reading: pg.Client, relayed: () => Promise<RelayCheckpoint | undefined>): Promise<Cut> {
  const position = await settledPosition(reading)
  await reading.query('begin isolation level repeatable read read only')
  return { place: hex(position + 1, 16), position, passed: async () => ((await relayed())?.position ?? 0) >= position }
}

/** The snapshot holds until the connection's next statement; the slot until its end. */
async function exportSnapshot (client: pg.Client): Promise<{ lsn: string, snapshot: string }> {
  const { rows: [slot] } = await client.query<{ consistent_point: string, snapshot_name: string }>(`CREATE_REPLICATION_SLOT "bifold_snapshot_${randomUUID().replaceAll('-', '')}" TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')`)
  return { lsn: slot!.consistent_point, snapshot: slot!.snapshot_name }
}

async function * pages (client: pg.Client, position: number, size: number): AsyncGenerator<EventRow[], void, void> {
  // The value as text: what is read is handed on as it was written.
  const query = bounded(`select aggregate, aggregate_id as "aggregateId", version, type, schema_version as "schemaVersion", value::text as value, request_id as "requestId", traceparent,
    to_char(time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as time
    from events where (aggregate_id, version) > ($1, $2) and position <= ${position} order by aggregate_id, version limit $3`, '"aggregateId", version')
  let after: [string, number] = ['00000000-0000-0000-0000-000000000000', 0]
  while (true) {
    const { rows } = await client.query<EventRow>(query, [...after, size])
    if (rows.length === 0) return
    // The last aggregate may have more events on the next page: then all of it goes there, unless it fills this one.
    const cut = rows.findLastIndex(({ aggregateId }) => aggregateId !== rows.at(-1)!.aggregateId) + 1
    const page = cut > 0 ? rows.slice(0, cut) : rows
    yield page
    after = [page.at(-1)!.aggregateId, page.at(-1)!.version]
  }
}

/** An event of the log as the message that the relay made of it, or will make. */
export const messageOf = (row: EventRow, sequence: string) => ({ key: Buffer.from(row.aggregateId), value: Buffer.from(row.value), headers: messageHeaders(row, sequence) })
