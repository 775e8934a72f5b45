/** The replication slot: WAL that PostgreSQL keeps for the relay. */
import pg from 'pg'
import { sql } from 'kysely'
import type { Db } from '@bifold/postgres'
import type { Place } from './stream.ts'

/** One for each database, since slots are the whole server's. */
export async function slotName (db: Db): Promise<string> {
  const { rows: [here] } = await sql<{ database: string }>`select current_database() as database`.execute(db)
  return `bifold_${here!.database.toLowerCase().replaceAll(/[^a-z0-9_]/g, '_')}`.slice(0, 63) // the longest name that PostgreSQL takes
}

/** Why the slot cannot be gone on with; undefined if it can. */
export async function slotFault (db: Db, slot: string): Promise<string | undefined> {
  const { rows: [found] } = await sql<{ status: string | null, why: string | null }>`select wal_status as status, to_jsonb(slots)->>'invalidation_reason' as why from pg_replication_slots as slots where slot_name = ${slot}`.execute(db)
  if (found === undefined) return `PostgreSQL has no replication slot ${slot}`
  // The reason is known from PostgreSQL 17 on; wal_removed means max_slot_wal_keep_size.
  if (found.status === 'lost') return `PostgreSQL has given up the replication slot ${slot}: ${found.why ?? 'wal_removed'}`
  return undefined
}

const freeMs = 2000 // below the lease's time, by whose session it is asked

/** A relay that has lost its lease may still be connected: it has no say any more. */
export async function freeSlot (db: Db, slot: string): Promise<void> {
  await sql`select pg_terminate_backend(active_pid, ${freeMs}) from pg_replication_slots where slot_name = ${slot} and active`.execute(db)
}

export interface NewSlot {
  /** The name of a snapshot (PostgreSQL's manual, "Exported Snapshots"): what is committed in it is not in the slot's stream, all else is. */
  readonly snapshot: string
  /** The place between the two. */
  readonly place: Place
  /** Ends the snapshot; who has taken it keeps it. */
  close (): Promise<void>
}

const connectMs = 5000 // as everywhere

/** Makes the slot, or makes it anew: what was committed before is not in its stream. Waits for transactions that write now. */
export async function makeSlot (db: Db, url: string, slot: string): Promise<NewSlot> {
  await sql`select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = ${slot}`.execute(db)
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectMs, replication: 'database', application_name: 'bifold-relay' } as pg.ClientConfig)
  client.on('error', () => {}) // what is asked next fails, and tells
  await client.connect()
  try {
    const { rows: [made] } = await client.query<{ consistent_point: string, snapshot_name: string }>(`CREATE_REPLICATION_SLOT "${slot}" LOGICAL pgoutput (SNAPSHOT 'export')`)
    const place = made!.consistent_point.split('/').map(half => half.padStart(8, '0')).join('').toLowerCase()
    return { snapshot: made!.snapshot_name, place, close: async () => await client.end() }
  } catch (error) {
    await client.end().catch(() => {})
    throw error
  }
}
