/** Brings the tables up to date; safe when several apps start at once (Kysely's migrator takes a lock). */
import { sql, type Kysely } from 'kysely'
import { Migrator, type Migration } from 'kysely/migration'
import type { Module } from '@bifold/cqrs'
import type { Db } from './index.ts'
import { migrations } from './migrations.ts'

/** What the relay reads: the inserts into `events`. */
export const publication = 'bifold_events'

const startLock = 0x6269666f // 'bifo': taken while the migrator's own tables are made, which Kysely does before it locks

/** @returns the names of what was migrated now */
export async function migrate (db: Db, modules: readonly Module[]): Promise<string[]> {
  return await db.connection().execute(async connection => {
    await sql`select pg_advisory_lock(${startLock})`.execute(connection)
    try {
      const { results, error } = await new Migrator({ db: connection as Kysely<unknown>, provider: { getMigrations: async () => all(modules) }, allowUnorderedMigrations: true }).migrateToLatest()
      if (error !== undefined) throw error
      return (results ?? []).filter(({ status }) => status === 'Success').map(({ migrationName }) => migrationName)
    } finally {
      await sql`select pg_advisory_unlock(${startLock})`.execute(connection)
    }
  })
}

function all (modules: readonly Module[]): Record<string, Migration> {
  const named = modules.flatMap(({ aggregates }) => aggregates.flatMap(({ name, store }) =>
    Object.entries(store.migrations).map(([migration, steps]) => [`${name}-${migration}`, steps] as const)))
  return { ...migrations, ...Object.fromEntries(named) }
}
