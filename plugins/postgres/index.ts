/** PostgreSQL: decorates `db`, a Kysely instance over a pool, and keeps the tables up to date. */
import fp from 'fastify-plugin'
import { CamelCasePlugin, Kysely, PostgresDialect, sql } from 'kysely'
import pg from 'pg'
import type { FastifyInstance } from 'fastify'
import type { Module } from '@bifold/cqrs'
import { backgroundOf, healthOf } from '@bifold/service'
import { migrate } from './migrate.ts'
import type { Tables } from './tables.ts'

export type { Tables } from './tables.ts'
export { migrate, publication, slotName } from './migrate.ts'
export { isOutage } from './outage.ts'

export type Db = Kysely<Tables>

export interface PostgresOptions { url: string, modules: readonly Module[], connectionsMax?: number }

const connectMs = 5000 // a server that takes longer to accept is away
const connectionsMax = 10 // two for the group commit, the rest for health, metrics and single commands

// 64-bit integers as numbers: no value of ours passes 2^53.
pg.types.setTypeParser(pg.types.builtins.INT8, Number)

export default fp<PostgresOptions>(async (app, options) => {
  const db = connect(options.url, options.connectionsMax)
  app.decorate('db', db)
  let migrated = false
  healthOf(app).add('postgres', async () => { await sql`select 1`.execute(db) })
  backgroundOf(app)('migrations', async ({ ready, signal }) => {
    if (!migrated) {
      for (const name of await migrate(db, options.modules)) app.log.info({ migration: name }, 'migrated')
    }
    migrated = true
    ready()
    await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
  })
  app.addHook('onClose', async () => { await db.destroy() })
}, { name: 'postgres', dependencies: ['health', 'background'] })

export const dbOf = (app: FastifyInstance): Db => app.getDecorator<Db>('db')

/** A Kysely instance over a pool of its own. */
export function connect (url: string, max = connectionsMax): Db {
  const pool = new pg.Pool({ connectionString: url, max, connectionTimeoutMillis: connectMs, keepAlive: true, application_name: 'bifold' })
  // A connection broke: its statement fails, the pool makes a new one, and health tells. Unheard, the event would end the process.
  pool.on('error', () => {})
  pool.on('connect', client => client.on('error', () => {}))
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool }), plugins: [new CamelCasePlugin({ maintainNestedObjectKeys: true })] })
}
