/** How far the relay is known to have got, kept in PostgreSQL: whether the topic and the event log still belong together, and where to look if not. */
import { setTimeout } from 'node:timers/promises'
import { sql } from 'kysely'
import type { FastifyBaseLogger } from 'fastify'
import type { Admin } from 'kafkajs'
import { hex } from '@bifold/cqrs'
import { lastPosition, poolOf, settledPosition, type Db, type RelayCheckpoint, type RelayMode } from '@bifold/postgres'
import { placeAfter, type Place } from './stream.ts'

const everyMs = 5000 // what is read again of topic and log after a break; one small write

export async function readCheckpoint (db: Db, topic: string): Promise<RelayCheckpoint | undefined> {
  return await db.selectFrom('relayCheckpoints').selectAll().where('topic', '=', topic).executeTakeFirst()
}

/** What stands from now on, if the relay is killed in the next moment. */
export async function writeCheckpoint (db: Db, { topic, ...rest }: RelayCheckpoint): Promise<void> {
  const values = { ...rest, offsets: json(rest.offsets), placeOffsets: json(rest.placeOffsets) }
  await db.insertInto('relayCheckpoints').values({ topic, ...values }).onConflict(conflict => conflict.column('topic').doUpdateSet(values)).execute()
}

/** Before a slot is made: there is one for all topics, which takes the place of the one that another topic's checkpoint names, and what it leaves out the others have to be sent from the table. */
export async function breakOthers (db: Db, topic: string): Promise<void> {
  await db.updateTable('relayCheckpoints').set({ continuous: false }).where('topic', '!=', topic).where('mode', '=', 'wal').execute()
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
    await moveCheckpoint(options).catch((error: unknown) => { if (!signal.aborted) log.warn(error, 'the relay\'s checkpoint was not moved') })
  }
}

/** One step: every event before the place, or up to the position, is in Kafka; every later one is at these offsets or behind them. */
async function moveCheckpoint ({ db, admin, topic, mode, epoch, signal, confirmed }: KeepOptions) {
  const offsets = await highOffsets(admin, topic)
  const settled = await settledSoon(db, signal)
  if (mode === 'polling' && settled === undefined) return
  const place = mode === 'polling' ? placeAfter(settled!) : await walPlace(db)
  while (confirmed() < place) await setTimeout(everyMs / 10, undefined, { signal })
  const row = db.updateTable('relayCheckpoints').where('topic', '=', topic).where('epoch', '=', epoch)
  if (settled !== undefined) await row.set({ position: settled, offsets: json(offsets) }).where('position', '<', settled).execute()
  await row.set({ place, placeOffsets: json(offsets) }).where('place', '<', place).execute()
}

/** The settled position; undefined if a transaction that writes events stays open. */
async function settledSoon (db: Db, signal: AbortSignal): Promise<number | undefined> {
  const client = await poolOf(db).connect()
  const soon = AbortSignal.timeout(everyMs)
  try {
    return await settledPosition(client, AbortSignal.any([signal, soon]))
  } catch (error) {
    if (soon.aborted && !signal.aborted) return undefined
    throw error
  } finally {
    client.release()
  }
}

/** Where the log stands now: what is committed from here on is new. */
export async function placeNow (db: Db, mode: RelayMode): Promise<Place> {
  if (mode === 'wal') return await walPlace(db)
  const { rows: [last] } = await sql.raw<{ position: number }>(lastPosition).execute(db)
  return placeAfter(last!.position)
}

const json = (offsets: readonly number[]) => JSON.stringify(offsets) as never

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
