/** The tables that Bifold itself keeps; the modules keep their own. */
import type { GeneratedAlways } from 'kysely'

/** The event log, which is the outbox too: append-only, written in the transaction of the state. */
export interface EventsTable {
  position: GeneratedAlways<number>
  aggregate: string
  aggregateId: string
  version: number
  type: string
  value: unknown
  requestId: string
  traceparent: string
  time: Date
}

/** Commands that were answered, by their Idempotency-Key. */
export interface IdempotencyKeysTable {
  key: string
  fingerprint: string
  answer: { id: string, version: number }
  createdAt: GeneratedAlways<Date>
}

export interface Tables {
  events: EventsTable
  idempotencyKeys: IdempotencyKeysTable
}
