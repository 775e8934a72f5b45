/** Connections to PostgreSQL: Kysely over pg. */
import { CamelCasePlugin, Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import type { Tables } from './tables.ts'

export type Db = Kysely<Tables>

const connectMs = 5000 // a server that takes longer to accept is away
const connectionsMax = 10 // two for the group commit, the rest for health, metrics and single commands

// 64-bit integers as numbers: no value of ours passes 2^53.
pg.types.setTypeParser(pg.types.builtins.INT8, Number)

/** Columns are in snake_case, their names in TypeScript in camelCase. */
const plugins = [new CamelCasePlugin({ maintainNestedObjectKeys: true })]

const pools = new WeakMap<Db, pg.Pool>()

/** The pool that the instance runs on. */
export const poolOf = (db: Db): pg.Pool => pools.get(db)!

/** The database that the instance is connected to, as pg reads it out of the URL, which may be a socket's, or leave it to the user's name. */
export const databaseOf = (db: Db): string => new pg.Client({ connectionString: poolOf(db).options.connectionString! }).database!

/** A Kysely instance over one connection, which somebody else opens and closes. */
export function over (connection: { query (text: string, parameters: readonly unknown[]): Promise<unknown> }): Db {
  const pool = { connect: async () => ({ query: async (text: string, parameters: readonly unknown[]) => await connection.query(text, parameters), release () {} }) as never, end: async () => {}, options: {} }
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool }), plugins })
}

/** A Kysely instance over a pool of its own. */
export function connect (url: string, max = connectionsMax): Db {
  const pool = new pg.Pool({ connectionString: url, max, connectionTimeoutMillis: connectMs, keepAlive: true, application_name: 'bifold' })
  // A connection broke: its statement fails, the pool makes a new one, and health tells. Unheard, the event would end the process.
  pool.on('error', () => {})
  pool.on('connect', client => client.on('error', () => {}))
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }), plugins })
  pools.set(db, pool)
  return db
}
