/** Reads the topic partition by partition, from where the checkpoints in MongoDB say, and hands it to a lane for each. */
import type { Admin, Consumer, EachBatchPayload, Kafka } from 'kafkajs'
import type { Db } from 'mongodb'
import type { FastifyBaseLogger } from 'fastify'
import type { AnyProjection } from '@bifold/cqrs'
import { aborted } from '@bifold/service'
import type { OrderBreak } from './audit.ts'
import { makeLane, type Held, type Lane } from './lane.ts'
import { Outdated } from './letters.ts'
import { loadPositions, project, type Positions } from './project.ts'

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
  /** Told what was applied. */
  readonly applied: (events: number, deadLetters: number) => void
  /** Told of versions that do not follow each other. */
  readonly disordered: (found: OrderBreak) => void
  /** Told of a read model that was built by another version of its projection: it is left alone. */
  readonly leftOut: (projection: AnyProjection, version: number) => void
  /** Told what of a partition is at hand and not yet applied. */
  readonly holding: (partition: number, held: Held | undefined) => void
}

const fetchWaitMs = 20 // a partition that is resumed misses the fetch in flight: a longer wait would be its latency
const fetchBytesMax = 256 * 1024 // of one partition: some 400 events; decoded they take ten times the room, and six partitions are read at once
const sessionMs = 6000 // Kafka's least: a projector that was killed loses its partitions after this time, and one that Kafka was away for has to wait as long
const heartbeatMs = 2000 // several in a session
const commitMs = 5000 // for people who look at the group's lag with Kafka's tools; the checkpoint is in MongoDB

/** Consumes until the signal; rejects when anything fails, and is then to be called again. */
export async function consume (options: ConsumeOptions, ready: () => void): Promise<void> {
  const { kafka, topic, groupId, signal } = options
  const consumer = kafka.consumer({
    groupId,
    allowAutoTopicCreation: false,
    maxWaitTimeInMs: fetchWaitMs,
    maxBytesPerPartition: fetchBytesMax,
    sessionTimeout: sessionMs,
    heartbeatInterval: heartbeatMs,
    retry: { retries: 3, restartOnFailure: async () => false }
  })
  const ended = Promise.withResolvers<void>()
  ended.promise.catch(() => {}) // a crash may come while nobody waits yet
  void aborted(signal).then(ended.resolve)
  consumer.on(consumer.events.CRASH, ({ payload: { error } }) => ended.reject((error as { cause?: Error }).cause ?? error))
  const lanes = makeLanes(options, consumer, ended.reject)
  consumer.on(consumer.events.GROUP_JOIN, ({ payload: { memberAssignment } }) => {
    // Where the partitions stand is asked of MongoDB anew after each rebalance: another projector may have had them.
    lanes.begin(memberAssignment[topic] ?? []).then(ready, ended.reject)
  })
  const committing = setInterval(() => { consumer.commitOffsets(lanes.offsets()).catch(() => {}) }, commitMs)
  try {
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    // kafkajs fetches again only when each batch of the last fetch is handed over: so a lane takes it at once, and works behind.
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: async ({ batch: { partition, messages, ...batch }, resolveOffset }: EachBatchPayload) => {
        const lane = await lanes.of(partition)
        // Read before the seek of the rebalance took hold: Kafka's own offset may be ahead of MongoDB, as after a restored backup: MongoDB is right.
        const from = Number((batch as unknown as { fetchedOffset: string }).fetchedOffset)
        if (lane === undefined || from > lane.next) return lane && consumer.seek({ topic, partition, offset: String(lane.next) })
        lane.add(messages.filter(({ offset }) => Number(offset) >= lane.next))
        if (messages.length > 0) resolveOffset(messages.at(-1)!.offset)
      }
    })
    await ended.promise
  } finally {
    clearInterval(committing)
    await consumer.disconnect().catch(() => {})
    await lanes.stop()
  }
}

function makeLanes (options: ConsumeOptions, consumer: Consumer, failed: (error: unknown) => void) {
  const { topic, holding, log } = options
  let lanes = new Map<number, Promise<{ lane: Lane, positions: Positions }>>()
  const positions = new Map<number, Positions>()

  const open = async (partition: number) => {
    const at = await loadPositions(options, partition)
    positions.set(partition, at)
    const here = [{ topic, partitions: [partition] }]
    const lane = makeLane({
      start: at.start,
      project: async messages => await project(options, partition, messages, at),
      pause: () => consumer.pause(here),
      resume: () => consumer.resume(here),
      holding: held => holding(partition, held),
      failed (error) {
        if (!(error instanceof Outdated)) return failed(error)
        log.warn({ partition, reason: error.message }, 'the partition is begun again')
        renew([partition]).catch(failed)
      }
    })
    consumer.resume(here)
    consumer.seek({ topic, partition, offset: String(at.start) })
    return { lane, positions: at }
  }

  // If the partition has gone to another projector, nothing more will come in, and nothing is written.
  const renew = async (partitions: readonly number[]) => {
    for (const partition of partitions) {
      holding(partition, undefined)
      lanes.set(partition, open(partition))
    }
    await Promise.all(partitions.map(partition => lanes.get(partition)))
  }

  const stop = async () => {
    const stopping = [...lanes.values()]
    lanes = new Map()
    for (const partition of positions.keys()) holding(partition, undefined)
    positions.clear()
    await Promise.all(stopping.map(async opened => await (await opened.catch(() => undefined))?.lane.stop()))
  }

  return {
    async begin (partitions: readonly number[]) {
      await stop()
      await renew(partitions)
    },
    of: async (partition: number): Promise<Lane | undefined> => (await lanes.get(partition))?.lane,
    offsets: () => [...positions].map(([partition, { start }]) => ({ topic, partition, offset: String(start) })),
    stop
  }
}
