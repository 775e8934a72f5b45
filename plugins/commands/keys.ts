/** Removes what is kept for a day, such as Idempotency-Keys that nobody will send again, in small batches, so that no command waits for a long delete. */
import { setTimeout } from 'node:timers/promises'
import { sql } from 'kysely'
import type { FastifyInstance } from 'fastify'
import { dbOf, type Db } from '@bifold/postgres'
import { backgroundOf } from '@bifold/service'

const keptHours = 24 // a client that has not heard for a day does not try again
const blocksMax = 16 // of PostgreSQL's 8 KB: some 1,500 keys, milliseconds of work
const everyMs = 60_000 // a minute more or less is nothing in a day
const firstMs = 1000 // after the migrations of a new database
const pauseMs = 50 // between two batches, for the commands; 100 million keys are gone through within an hour

/** The table has a column created_at. */
export function removeOld (app: FastifyInstance, name: string, table: string) {
  const db = dbOf(app)
  backgroundOf(app)(name, async ({ signal, ready }) => {
    ready()
    const rest = async (ms: number) => await setTimeout(ms, undefined, { signal }).catch(() => {})
    await rest(firstMs)
    while (!signal.aborted) {
      const blocks = await countBlocks(db, table)
      for (let block = 0; block < blocks && !signal.aborted; block += blocksMax) {
        await removeFrom(db, table, block)
        await rest(pauseMs)
      }
      await rest(everyMs)
    }
  })
}

async function countBlocks (db: Db, table: string): Promise<number> {
  const { rows: [size] } = await sql<{ blocks: number }>`select pg_relation_size(${table}::regclass) / current_setting('block_size')::integer as blocks`.execute(db)
  return size!.blocks
}

// By their place in the table: an index on their time would cost each command that brings one.
async function removeFrom (db: Db, table: string, block: number): Promise<void> {
  const tid = (at: number) => sql`${`(${at},0)`}::tid`
  await sql`delete from ${sql.table(table)} where ctid >= ${tid(block)} and ctid < ${tid(block + blocksMax)} and created_at < now() - ${keptHours} * interval '1 hour'`.execute(db)
}
