/** The replication slot: WAL that PostgreSQL keeps for the relay. */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { sql } from 'kysely'
import type { Db } from '@bifold/postgres'
import type { Place } from './stream.ts'

const nameMax = 63 // the longest that PostgreSQL takes
const ownBytes = 4 // enough to be another than any before

/**
 * A name that no slot has had: the server's other databases have theirs, and the relay goes on only with the one that its checkpoint
 * names. So a slot that somebody else made in its place, by hand or by a tool that keeps slots of fixed names, is not taken for it:
 * that begins where it was made, and what was committed before would be left out. What is not noticed is one that was made anew under
 * the very name, random digits and all: PostgreSQL tells no slot's age, and where it begins says nothing, since the relay confirms
 * more often than it writes its checkpoint. (Slots made with TWO_PHASE tell it from 18 on, but send prepared transactions otherwise.)
 */
async function newName (db: Db): Promise<string> {
  const { rows: [here] } = await sql<{ database: string }>`select current_database() as database`.execute(db)
  const own = `_${randomBytes(ownBytes).toString('hex')}`
  return `bifold_${here!.database.toLowerCase().replaceAll(/[^a-z0-9_]/g, '_')}`.slice(0, nameMax - own.length) + own
}

/** Those of this database with the relay's prefix, whoever made them; a temporary one is a snapshot's (plugins/postgres/snapshot.ts). */
export const relaySlots = sql`(select * from pg_replication_slots where database = current_database() and starts_with(slot_name, 'bifold_') and not temporary) as slots`

/**
 * Why the slot that the checkpoint names cannot be gone on with; undefined if it can. Null is a checkpoint of before slots had names of
 * their own. It could mean the fixed name of then, but whether that is still the same slot, nobody could tell.
 */
export async function slotFault (db: Db, slot: string | null): Promise<string | undefined> {
  if (slot === null) return 'The checkpoint names no replication slot: it was written when all had the same name'
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
  readonly name: string
  /** The name of a snapshot (PostgreSQL's manual, "Exported Snapshots"): what is committed in it is not in the slot's stream, all else is. */
  readonly snapshot: string
  /** The place between the two. */
  readonly place: Place
  /** Ends the snapshot; who has taken it keeps it. */
  close (): Promise<void>
}

const connectMs = 5000 // as everywhere

/**
 * Makes a slot in place of all earlier ones: what was committed before is not in its stream. Waits for transactions that write now.
 *
 * @param db by the session of the lease
 */
export async function makeSlot (db: Db, url: string): Promise<NewSlot> {
  await dropSlots(db)
  const name = await newName(db)
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectMs, replication: 'database', application_name: 'bifold-relay' } as pg.ClientConfig)
  client.on('error', () => {}) // what is asked next fails, and tells
  await client.connect()
  try {
    const { rows: [made] } = await client.query<{ consistent_point: string, snapshot_name: string }>(`CREATE_REPLICATION_SLOT "${name}" LOGICAL pgoutput (SNAPSHOT 'export')`)
    // Who has lost the lease meanwhile leaves none behind: no checkpoint would name it, and PostgreSQL would keep WAL for it.
    await sql`select`.execute(db).catch(async (error: unknown) => {
      await client.query(`DROP_REPLICATION_SLOT "${name}"`)
      throw error
    })
    const place = made!.consistent_point.split('/').map(half => half.padStart(8, '0')).join('').toLowerCase()
    return { name, snapshot: made!.snapshot_name, place, close: async () => await client.end() }
  } catch (error) {
    await client.end().catch(() => {})
    throw error
  }
}

/** All of the relay's, whatever their names: nobody goes on with them any more, and PostgreSQL would keep WAL for them for ever. */
export async function dropSlots (db: Db): Promise<void> {
  const { rows } = await sql<{ name: string }>`select slot_name as name from ${relaySlots}`.execute(db)
  for (const { name } of rows) {
    await freeSlot(db, name)
    await sql`select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = ${name}`.execute(db)
  }
}
