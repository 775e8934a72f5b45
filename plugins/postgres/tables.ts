/** The tables that Bifold itself keeps; the modules keep their own. */
import type { Generated, GeneratedAlways } from 'kysely'

/** The event log, which is the outbox too: append-only, written in the transaction of the state. */
export interface EventsTable {
  position: GeneratedAlways<number>
  aggregate: string
  aggregateId: string
  version: number
  type: string
  /** Of the event's shape. */
  schemaVersion: Generated<number>
  value: unknown
  requestId: string
  traceparent: string
  time: Date
}

/** Commands that were answered, by their Idempotency-Key. */
export interface IdempotencyKeysTable {
  /** 128 bits of the key's SHA-256: a third of the room, and nobody has to read the key here. */
  digest: string
  /** 128 bits of SHA-256 of what was asked. */
  fingerprint: string
  /** The answer: the aggregate's id and version. */
  id: string
  version: number
  createdAt: GeneratedAlways<Date>
}

/** How the relay reads the event log. */
export type RelayMode = 'wal' | 'polling'

/** How far the relay is known to have got with a topic. */
export interface RelayCheckpoint {
  topic: string
  /** Rises when the places in the sequences begin anew. */
  epoch: number
  mode: RelayMode
  /** Every event up to this position is in Kafka; later ones are at these offsets or behind them. */
  position: number
  offsets: number[]
  /** The same by the place in the stream, which is known sooner: no transaction that is still open is waited for. */
  place: string
  placeOffsets: number[]
  /** The replication slot whose stream goes on there; null if it polls, or catches up, or was written before slots had names of their own. */
  slot: string | null
  /** False while the relay sends what a break has left out. */
  continuous: boolean
}

/** What became of commands that waited in the queue; kept for a day. */
export interface QueuedCommandsTable {
  id: string
  aggregate: string
  /** Null if it was refused. */
  aggregateId: string | null
  version: number | null
  /** The versions of other aggregates that it has seen, as JSON. */
  seen: unknown
  /** Why it was refused, as JSON. */
  problem: unknown
  createdAt: GeneratedAlways<Date>
}

/** Where a partition of the topic of commands stands: what is before `next` is done. */
export interface CommandCheckpointsTable {
  topic: string
  /** Tells the topic from another that has had its name; null if it was written before ids were. */
  topicId: string | null
  partition: number
  next: number
}

export interface Tables {
  queuedCommands: QueuedCommandsTable
  commandCheckpoints: CommandCheckpointsTable
  relayCheckpoints: RelayCheckpoint
  events: EventsTable
  idempotencyKeys: IdempotencyKeysTable
}
