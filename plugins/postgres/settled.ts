/** Finds out up to where the event log is settled: each position up to there is of an event that is committed, or of none for ever. */
import { setTimeout } from 'node:timers/promises'
import type pg from 'pg'

const againMs = 3 // what a commit takes

/**
 * Positions are given before the commit, so a higher one may be seen first. Whoever has been given one holds the lock on the table
 * until its transaction ends: when all have ended that had it after the last position was read, nothing up to there is open.
 * Transactions that do not write events are not waited for.
 *
 * @returns the highest settled position
 * @throws if the signal came first
 */
export async function settledPosition (client: pg.ClientBase, signal?: AbortSignal): Promise<number> {
  const { rows: [last] } = await client.query<{ position: number }>("select coalesce(pg_sequence_last_value(pg_get_serial_sequence('events', 'position')::regclass), 0) as position")
  const open = async (): Promise<string[]> => (await client.query<{ transaction: string }>(`select virtualtransaction as transaction from pg_locks
    where locktype = 'relation' and mode = 'RowExclusiveLock' and relation = 'events'::regclass and database = (select oid from pg_database where datname = current_database())`)).rows.map(({ transaction }) => transaction)
  let left = new Set(await open())
  while (left.size > 0) {
    await setTimeout(againMs, undefined, { signal })
    const still = new Set(await open())
    left = new Set([...left].filter(transaction => still.has(transaction)))
  }
  return last!.position
}
