/** PostgreSQL: decorates `db`, a Kysely instance over a pool, and keeps the tables up to date. */
import fp from 'fastify-plugin'
import { sql } from 'kysely'
import type { FastifyInstance } from 'fastify'
import type { Module } from '@bifold/cqrs'
import { aborted, backgroundOf, healthOf } from '@bifold/service'
import { connect, type Db } from './connect.ts'
import { migrate } from './migrate.ts'

export { arrays } from './arrays.ts'
export { connect, databaseOf, over, poolOf, type Db } from './connect.ts'
export type { RelayCheckpoint, RelayMode, Tables } from './tables.ts'
export { migrate, publication } from './migrate.ts'
export { isOutage } from './outage.ts'
export { bounded } from './page.ts'
export { messageOf, snapshotEvents, type EventLogSnapshot } from './snapshot.ts'
export { lastPosition, settledPosition } from './settled.ts'
export { transaction, type Decided } from './transaction.ts'

export interface PostgresOptions { url: string, modules: readonly Module[], connectionsMax?: number }

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
    await aborted(signal)
  })
  app.addHook('onClose', async () => { await db.destroy() })
}, { name: 'postgres', dependencies: ['health', 'background'] })

export const dbOf = (app: FastifyInstance): Db => app.getDecorator<Db>('db')
