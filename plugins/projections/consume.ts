/** Reads the topic from where the checkpoints in MongoDB say, and applies it. */
import type { Admin, Kafka } from 'kafkajs'
import type { Db } from 'mongodb'
import type { FastifyBaseLogger } from 'fastify'
import type { AnyProjection } from '@bifold/cqrs'
import { consume as consumeTopic, type Held } from '@bifold/kafka'
import type { OrderBreak } from './audit.ts'
import { openPartition } from './project.ts'
import { makeTurns } from './turns.ts'

export interface ConsumeOptions {
  readonly db: Db
  readonly kafka: Kafka
  readonly admin: Admin
  readonly topic: string
  /** Kafka's name for those who share the partitions. */
  readonly groupId: string
  readonly projections: readonly AnyProjection[]
  /** The types of all events that modules declare. */
  readonly declared: ReadonlySet<string>
  readonly signal: AbortSignal
  readonly log: FastifyBaseLogger
  /** Told what was applied to a read model. */
  readonly applied: (projection: AnyProjection, events: number, deadLetters: number) => void
  /** Told of versions that do not follow each other. */
  readonly disordered: (found: OrderBreak) => void
  /** Told of a read model that was built by another version of its projection: it is left alone. */
  readonly leftOut: (projection: AnyProjection, version: number) => void
  /** Told what of a partition is at hand and not yet applied. */
  readonly holding: (partition: number, held: Held | undefined) => void
}

const fetchWaitMs = 20 // what a reader may have to wait for, when a partition is resumed

/** Consumes until the signal; rejects when anything fails, and is then to be called again. */
export async function consume (options: ConsumeOptions, ready: () => void): Promise<void> {
  const all = { ...options, turns: makeTurns(options.projections) }
  await consumeTopic({ ...all, fetchWaitMs, open: async partition => await openPartition(all, partition) }, ready)
}
