/** The outcomes of queued commands in PostgreSQL, and how far the queue is done. */
import { sql, type CompiledQuery } from 'kysely'
import { CommandNotFound, Unavailable, writeToken, type Place as Seen } from '@bifold/cqrs'
import { arrays, isOutage, type Db } from '@bifold/postgres'
import { writePlace, type Place } from './queued.ts'
import type { Answer } from './request.ts'

/** A partition of one topic: another of the same name has another id. */
export interface Partition { readonly topicId: string, readonly partition: number }

/** What is told of a queued command. */
export interface Status {
  readonly id: string
  readonly status: 'queued' | 'succeeded' | 'refused'
  readonly result?: { readonly id: string, readonly version: number, readonly consistencyToken: string }
  readonly problem?: unknown
}

export interface Succeeded { readonly id: string, readonly aggregate: string, readonly answer: Answer }
export interface Refused { readonly id: string, readonly aggregate: string, readonly problem: unknown }

export const insertSucceeded = (tx: Db, succeeded: readonly Succeeded[]): CompiledQuery => sql`
  insert into queued_commands (id, aggregate, aggregate_id, version, seen)
  select * from unnest(
    ${arrays.uuid(succeeded.map(({ id }) => id))}::uuid[],
    ${arrays.text(succeeded.map(({ aggregate }) => aggregate))}::text[],
    ${arrays.uuid(succeeded.map(({ answer: { id } }) => id))}::uuid[],
    ${arrays.integer(succeeded.map(({ answer: { version } }) => version))}::integer[],
    ${arrays.json(succeeded.map(({ answer: { seen = [] } }) => JSON.stringify(seen)))}::json[]
  )
`.compile(tx)

/** Passes over those of which another gateway has found otherwise. */
export const insertRefused = (tx: Db, refused: readonly Refused[]): CompiledQuery => sql`
  insert into queued_commands (id, aggregate, problem)
  select * from unnest(
    ${arrays.uuid(refused.map(({ id }) => id))}::uuid[],
    ${arrays.text(refused.map(({ aggregate }) => aggregate))}::text[],
    ${arrays.json(refused.map(({ problem }) => JSON.stringify(problem)))}::json[]
  )
  on conflict (id) do nothing
`.compile(tx)

/** Keeps why commands are refused, each before anything that comes after it in its order is done. */
export async function keepRefused (db: Db, refused: readonly Refused[]): Promise<void> {
  if (refused.length > 0) await db.executeQuery(insertRefused(db, refused))
}

export function makeOutcomes (db: Db, topic: string, tokenSecret: string) {
  return {
    /** @throws COMMAND_NOT_FOUND for one that is done and forgotten, or never was; UNAVAILABLE */
    async find (place: Place, topicId: string | undefined, isOnTopic: () => Promise<boolean>): Promise<Status> {
      const text = writePlace(place)
      // In one statement, so that a command that is done in this moment is seen on one side or the other.
      const { rows: [found] } = await sql<{ aggregate: string | null, aggregateId: string | null, version: number | null, seen: Seen[] | null, problem: unknown, next: number | null }>`
        select outcome.aggregate, outcome.aggregate_id, outcome.version, outcome.seen, outcome.problem, checkpoint.next
        from (select 1) as one
        left join queued_commands as outcome on outcome.id = ${place.id}::uuid
        left join command_checkpoints as checkpoint on checkpoint.topic = ${topic} and checkpoint.partition = ${place.partition}::integer and coalesce(checkpoint.topic_id, ${topicId ?? null}::text) = ${topicId ?? null}::text
      `.execute(db).catch(error => { throw isOutage(error) ? new Unavailable('PostgreSQL') : error })
      const { aggregate, aggregateId, version, seen, problem, next } = found!
      if (aggregate === null) {
        if (place.offset < (next ?? 0) || !await isOnTopic()) throw new CommandNotFound(text)
        return { id: text, status: 'queued' }
      }
      if (aggregateId === null) return { id: text, status: 'refused', problem }
      const result = { id: aggregateId, version: version! }
      return { id: text, status: 'succeeded', result: { ...result, consistencyToken: [{ aggregate, ...result }, ...seen ?? []].map(seen => writeToken(tokenSecret, seen)).join() } }
    },

    /** Which of these are done. */
    async done (ids: readonly string[]): Promise<Set<string>> {
      const { rows } = await sql<{ id: string }>`select id from queued_commands where id = any(${ids}::uuid[])`.execute(db)
      return new Set(rows.map(({ id }) => id))
    },

    /** Keeps why commands are refused that are not even tried. */
    refuse: async (refused: readonly Refused[]): Promise<void> => await keepRefused(db, refused),

    /** Keeps how far the partition is done. */
    async keep ({ topicId, partition }: Partition, next: number): Promise<void> {
      await sql`
        insert into command_checkpoints (topic, topic_id, partition, next) values (${topic}, ${topicId}, ${partition}, ${next})
        on conflict (topic, partition) do update set topic_id = excluded.topic_id,
          next = case when command_checkpoints.topic_id = excluded.topic_id then greatest(command_checkpoints.next, excluded.next) else excluded.next end`.execute(db)
    },

    /** Of the topic with this id. */
    async checkpoints (topicId: string): Promise<Map<number, number>> {
      const rows = await db.selectFrom('commandCheckpoints').select(['partition', 'next']).where('topic', '=', topic)
        .where(({ or, eb }) => or([eb('topicId', '=', topicId), eb('topicId', 'is', null)])).execute()
      return new Map(rows.map(({ partition, next }) => [partition, next]))
    },

    /** Forgets how far topics were done that have had the name before; resolves with true if there were any. */
    async forgetOthers (topicId: string): Promise<boolean> {
      const { numDeletedRows } = await db.deleteFrom('commandCheckpoints').where('topic', '=', topic).where('topicId', '!=', topicId).executeTakeFirst()
      return numDeletedRows > 0
    },

    /** Of a topic that is shorter than before. */
    async forget (partition: number): Promise<void> {
      await db.deleteFrom('commandCheckpoints').where('topic', '=', topic).where('partition', '=', partition).execute()
    }
  }
}

export type Outcomes = ReturnType<typeof makeOutcomes>
