/** Removes Idempotency-Keys that nobody will send again, in small batches, so that no command waits for a long delete. */
import { setTimeout } from 'node:timers/promises'
import { sql } from 'kysely'
import type { FastifyInstance } from 'fastify'
import { dbOf, type Db } from '@bifold/postgres'
import { backgroundOf } from '@bifold/service'

const keptHours = 24 // a client that has not heard for a day does not try again
const batchMax = 1000 // some milliseconds of work for PostgreSQL
const everyMs = 60_000 // a minute more or less is nothing in a day
const firstMs = 1000 // after the migrations of a new database
const pauseMs = 50 // between two batches, for the commands

export function removeOldKeys (app: FastifyInstance) {
  const db = dbOf(app)
  backgroundOf(app)('idempotency keys', async ({ signal, ready }) => {
    ready()
    const rest = async (ms: number) => await setTimeout(ms, undefined, { signal }).catch(() => {})
    await rest(firstMs)
    while (!signal.aborted) await rest(await removeBatch(db) < batchMax ? everyMs : pauseMs)
  })
}

/** @returns how many were removed; several gateways remove different ones */
async function removeBatch (db: Db): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from idempotency_keys where key in (
      select key from idempotency_keys where created_at < now() - ${keptHours} * interval '1 hour' limit ${batchMax} for update skip locked
    )`.execute(db)
  return Number(numAffectedRows)
}
