/** The events that processes have still to react to: written down in the transaction of the event, and taken away in that of the last command that it leads to. */
import { sql, type CompiledQuery } from 'kysely'
import { envelopeOf, type Envelope, type EventRow } from '@bifold/cqrs'
import { arrays, type Db } from '@bifold/postgres'

/** Which processes an event is for, and who is told when there is something to do. */
export interface Reactions {
  readonly byType: ReadonlyMap<string, readonly string[]>
  committed (): void
}

export const noReactions: Reactions = { byType: new Map(), committed () {} }

interface Committed { readonly id: string, readonly version: number, readonly type: string }

/** The statement that writes down who is to react to these events; none if nobody is. */
export function written (tx: Db, events: readonly Committed[], { byType }: Reactions): CompiledQuery | undefined {
  if (byType.size === 0) return undefined
  const rows = events.flatMap(({ id, version, type }) => (byType.get(type) ?? []).map(process => ({ process, id, version })))
  if (rows.length === 0) return undefined
  return sql`
    insert into process_events (process, aggregate_id, version)
    select * from unnest(
      ${arrays.text(rows.map(({ process }) => process))}::text[],
      ${arrays.uuid(rows.map(({ id }) => id))}::uuid[],
      ${arrays.integer(rows.map(({ version }) => version))}::integer[]
    )
  `.compile(tx)
}

/** An event that a process has still to react to. */
export interface Due {
  readonly position: number
  /** How many of its commands are done. */
  readonly done: number
  readonly traceparent: string
  readonly event: Envelope
}

interface Row extends EventRow { position: number, done: number }

/**
 * The next events of a process, in the order in which they were written: that of each aggregate is its own.
 *
 * @param types those that this code knows: another gateway may know more
 * @param without the aggregates whose events have to wait
 */
export async function due (db: Db, process: string, types: readonly string[], without: readonly string[], limit: number): Promise<Due[]> {
  const { rows } = await sql<Row>`
    select process_events.position, done, aggregate, process_events.aggregate_id, process_events.version, type, schema_version, value::text, request_id, traceparent,
      to_char(time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as time
    from process_events join events using (aggregate_id, version)
    where process = ${process} and type = any(${types}::text[]) and aggregate_id <> all(${without}::uuid[])
    order by process_events.position limit ${limit}
  `.execute(db)
  // The sequence is of the topic, and nobody here asks for it.
  return rows.map(({ position, done, ...row }) => ({ position, done, traceparent: row.traceparent, event: envelopeOf(row, '') }))
}

/** The statement that says how far an event is dealt with: with so many of its commands, or with all. */
export const dealtWith = (db: Db, { position }: Due, done: number | 'all'): CompiledQuery =>
  (done === 'all' ? sql`delete from process_events where position = ${position}` : sql`update process_events set done = ${done} where position = ${position}`).compile(db)
