/** Finds out up to where the event log is settled: each position up to there is of an event that is committed, or of none for ever. */
import { setTimeout } from 'node:timers/promises'
import type pg from 'pg'

const againMs = 3 // what a commit takes

/** The last position that was given. Of the sequence itself: who may not read it is told so, where `pg_sequence_last_value` gives null, as if there were no events. */
export const lastPosition = 'select case when is_called then last_value else 0 end as position from events_position_seq'

/**
 * Positions are given before the commit, so a higher one may be seen first. Whoever has been given one holds the lock on the table
 * until its transaction ends: when all have ended that had it after the last position was read, nothing up to there is open.
 * Transactions that do not write events are not waited for.
 *
 * @returns the highest settled position
 * @throws if the signal came first
 */
export async function settledPosition (client: pg.ClientBase, signal?: AbortSignal): Promise<number> {
  const { rows: [last] } = await client.query<{ position: number }>(lastPosition)
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
