/** How far the relay is known to have got, kept in PostgreSQL: whether the topic and the event log still belong together, and where to look if not. */
import { setTimeout } from 'node:timers/promises'
import { sql } from 'kysely'
import type { FastifyBaseLogger } from 'fastify'
import type { Admin } from 'kafkajs'
import { poolOf, settledPosition, type Db, type RelayCheckpoint, type RelayMode } from '@bifold/postgres'
import { hex, type Place } from './stream.ts'

const everyMs = 5000 // what is read again of topic and log after a break; one small write

export async function readCheckpoint (db: Db, topic: string): Promise<RelayCheckpoint | undefined> {
  return await db.selectFrom('relayCheckpoints').selectAll().where('topic', '=', topic).executeTakeFirst()
}

/** What stands from now on, if the relay is killed in the next moment. */
export async function writeCheckpoint (db: Db, { topic, ...rest }: RelayCheckpoint): Promise<void> {
  const values = { ...rest, offsets: JSON.stringify(rest.offsets) as never }
  await db.insertInto('relayCheckpoints').values({ topic, ...values }).onConflict(conflict => conflict.column('topic').doUpdateSet(values)).execute()
}

export interface KeepOptions {
  readonly db: Db
  readonly admin: Admin
  readonly topic: string
  readonly mode: RelayMode
  readonly epoch: number
  readonly signal: AbortSignal
  readonly log: FastifyBaseLogger
  /** What the relay has confirmed. */
  readonly confirmed: () => Place
}

/** Moves the checkpoint every few seconds, until the signal; where that fails, it stays, and costs only time after a break. */
export async function keepCheckpoint (options: KeepOptions): Promise<void> {
  const { signal, log } = options
  while (true) {
    await setTimeout(everyMs, undefined, { signal }).catch(() => {})
    if (signal.aborted) return
    await moveCheckpoint(options).catch((error: unknown) => log.warn(error, 'the relay\'s checkpoint was not moved'))
  }
}

/** One step: every event up to the position is in Kafka, every later one is at these offsets or behind them. */
async function moveCheckpoint ({ db, admin, topic, mode, epoch, signal, confirmed }: KeepOptions) {
  const offsets = await highOffsets(admin, topic)
  const client = await poolOf(db).connect()
  const settled = await settledPosition(client, signal).finally(() => client.release())
  const place = mode === 'polling' ? hex(settled, 16) : await walPlace(db)
  while (confirmed() < place) {
    await setTimeout(everyMs / 10, undefined, { signal }).catch(() => {})
    if (signal.aborted) return
  }
  await db.updateTable('relayCheckpoints').set({ position: settled, offsets: JSON.stringify(offsets) as never })
    .where('topic', '=', topic).where('epoch', '=', epoch).where('position', '<', settled).execute()
}

/** The end of each partition. */
export async function highOffsets (admin: Admin, topic: string): Promise<number[]> {
  const offsets: number[] = []
  for (const { partition, high } of await admin.fetchTopicOffsets(topic)) offsets[partition] = Number(high)
  return offsets
}

async function walPlace (db: Db): Promise<Place> {
  const { rows: [here] } = await sql<{ bytes: number }>`select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 as bytes`.execute(db)
  return hex(here!.bytes, 16)
}
