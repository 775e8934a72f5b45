/** Reads the topic from where the checkpoints in MongoDB say, and applies it. */
import type { Admin, Kafka } from 'kafkajs'
import type { Db } from 'mongodb'
import type { FastifyBaseLogger } from 'fastify'
import type { AnyProjection } from '@bifold/cqrs'
import { consume as consumeTopic, type Held, type Opened } from '@bifold/kafka'
import type { OrderBreak } from './audit.ts'
import { loadPositions, project } from './project.ts'

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

/** Opens a partition where MongoDB says. */
export const openIn = (options: ConsumeOptions) => async (partition: number): Promise<Opened> => {
  const positions = await loadPositions(options, partition)
  return {
    get start () { return positions.start },
    work: async messages => await project(options, partition, messages, positions)
  }
}

/** Consumes until the signal; rejects when anything fails, and is then to be called again. */
export const consume = async (options: ConsumeOptions, ready: () => void): Promise<void> => await consumeTopic({ ...options, open: openIn(options) }, ready)
