/** Brings the tables up to date; safe when several apps start at once (Kysely's migrator takes a lock). */
import { sql, type Kysely } from 'kysely'
import { Migrator, type Migration } from 'kysely/migration'
import type { AnyAggregate, Module } from '@bifold/cqrs'
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
      return await migrateInOrder(connection as Kysely<unknown>, [migrations, ...modules.flatMap(({ aggregates }) => aggregates.map(own))])
    } finally {
      await sql`select pg_advisory_unlock(${startLock})`.execute(connection)
    }
  })
}

type Migrations = Readonly<Record<string, Migration>>

const own = ({ name, store }: AnyAggregate): Migrations =>
  Object.fromEntries(Object.entries(store.migrations).map(([migration, steps]) => [`${name}-${migration}`, steps]))

/** Part after part, since a table may refer to one of an earlier part: left to itself, the migrator goes by the names of all. */
async function migrateInOrder (db: Kysely<unknown>, parts: readonly Migrations[]): Promise<string[]> {
  const all: Migrations = Object.assign({}, ...parts)
  const migrator = (migrations: Migrations) => new Migrator({ db, provider: { getMigrations: async () => migrations }, allowUnorderedMigrations: true })
  let known = Object.fromEntries((await migrator(all).getMigrations()).filter(({ executedAt }) => executedAt !== undefined).map(({ name, migration }) => [name, migration]))
  const done: string[] = []
  // The last time with all: that finds a database that a later version has migrated.
  for (const part of [...parts.filter(part => Object.keys(part).some(name => !(name in known))), all]) {
    known = { ...known, ...part }
    const { results = [], error } = await migrator(known).migrateToLatest()
    if (error !== undefined) throw error
    done.push(...results.filter(({ status }) => status === 'Success').map(({ migrationName }) => migrationName))
  }
  return done
}
