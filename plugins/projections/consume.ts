/** Reads the topic partition by partition, from where the checkpoints in MongoDB say, and hands it to the projections. */
import type { Admin, Consumer, EachBatchPayload, Kafka } from 'kafkajs'
import type { Db, MongoClient } from 'mongodb'
import type { FastifyBaseLogger } from 'fastify'
import { readMessage, UnreadableMessage, type AnyProjection, type Envelope } from '@bifold/cqrs'
import { apply, checkpointId, checkpoints, Fenced, type Checkpoint, type DeadLetter, type RawMessage, type Stretch } from './apply.ts'

export interface ConsumeOptions {
  readonly client: MongoClient
  readonly db: Db
  readonly kafka: Kafka
  readonly admin: Admin
  readonly topic: string
  readonly projections: readonly AnyProjection[]
  readonly signal: AbortSignal
  readonly log: FastifyBaseLogger
  /** Told what was applied. */
  readonly applied: (events: number, deadLetters: number) => void
  /** Told which messages are at hand and not yet applied: the time of the oldest, or undefined when there is none. */
  readonly holding: (partition: number, since: number | undefined) => void
}

const fetchWaitMs = 20 // a partition that was busy misses the fetch in flight: a longer wait would be its latency
const fetchBytesMax = 256 * 1024 // of one partition: some 400 events; decoded they take ten times the room, and six partitions are read at once
const eventsMax = 1000 // in one transaction: beyond, it gets slower than two
const sessionMs = 10_000 // a projector that was killed loses its partitions after this time
const heartbeatMs = 2000 // several in a session

/** Consumes until the signal; rejects when anything fails, and is then to be called again. */
export async function consume (options: ConsumeOptions, ready: () => void): Promise<void> {
  const { kafka, topic, signal, db } = options
  const consumer = kafka.consumer({
    groupId: `bifold-projector.${db.databaseName}.${topic}`,
    allowAutoTopicCreation: false,
    maxWaitTimeInMs: fetchWaitMs,
    maxBytesPerPartition: fetchBytesMax,
    sessionTimeout: sessionMs,
    heartbeatInterval: heartbeatMs,
    retry: { retries: 3, restartOnFailure: async () => false }
  })
  const ended = Promise.withResolvers<void>()
  ended.promise.catch(() => {}) // a crash may come while nobody waits yet
  signal.addEventListener('abort', () => ended.resolve(), { once: true })
  consumer.on(consumer.events.CRASH, ({ payload: { error } }) => ended.reject((error as { cause?: Error }).cause ?? error))
  // Where the partitions stand is asked of MongoDB anew after each rebalance: another projector may have had them.
  let positions = new Map<number, Promise<Positions>>()
  const begin = async (partitions: readonly number[]) => {
    await Promise.all(partitions.map(async partition => {
      const { start } = await positionOf(options, positions, partition)
      consumer.seek({ topic, partition, offset: String(start) })
    }))
    ready()
  }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload: { memberAssignment } }) => {
    positions = new Map()
    begin(memberAssignment[topic] ?? []).catch(ended.reject)
  })
  try {
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      eachBatchAutoResolve: false,
      autoCommitInterval: 5000, // for people who look at the group's lag with Kafka's tools; the checkpoint is in MongoDB
      partitionsConsumedConcurrently: 6,
      eachBatch: async payload => await projectBatch(options, consumer, positions, payload)
    })
    await ended.promise
  } finally {
    await consumer.disconnect().catch(() => {})
  }
}

/** Where each projection stands in a partition, and where reading has to begin for all of them. */
interface Positions { readonly byProjection: Map<AnyProjection, Checkpoint | undefined>, start: number }

async function projectBatch (options: ConsumeOptions, consumer: Consumer, positions: Map<number, Promise<Positions>>, { batch, resolveOffset, heartbeat, isRunning, isStale, commitOffsetsIfNecessary }: EachBatchPayload) {
  const { topic, holding, log } = options
  const { partition } = batch
  const at = await positionOf(options, positions, partition)
  // Read before the seek of the rebalance took hold: Kafka's own offset may be ahead of MongoDB, as after a restored backup: MongoDB is right.
  const fetchedFrom = Number((batch as unknown as { fetchedOffset: string }).fetchedOffset)
  if (fetchedFrom > at.start) {
    log.info({ partition, from: fetchedFrom, to: at.start }, 'going back to the checkpoint')
    consumer.seek({ topic, partition, offset: String(at.start) })
    return
  }
  const messages = batch.messages.filter(({ offset }) => Number(offset) >= at.start)
  try {
    for (let begin = 0; begin < messages.length && isRunning() && !isStale(); begin += eventsMax) {
      const chunk = messages.slice(begin, begin + eventsMax)
      holding(partition, Number(chunk[0]!.timestamp))
      await project(options, partition, chunk, at)
      resolveOffset(chunk.at(-1)!.offset)
      await heartbeat()
      await commitOffsetsIfNecessary()
    }
    holding(partition, undefined)
  } catch (error) {
    if (!(error instanceof Fenced)) throw error
    log.warn({ partition, reason: error.message }, 'fenced off')
    holding(partition, undefined)
    positions.delete(partition)
  }
}

async function positionOf (options: ConsumeOptions, positions: Map<number, Promise<Positions>>, partition: number): Promise<Positions> {
  if (!positions.has(partition)) positions.set(partition, loadPositions(options, partition))
  try {
    return await positions.get(partition)!
  } catch (error) {
    positions.delete(partition)
    throw error
  }
}

async function loadPositions ({ db, admin, topic, projections }: ConsumeOptions, partition: number): Promise<Positions> {
  const range = (await admin.fetchTopicOffsets(topic)).find(found => found.partition === partition)
  const [low, high] = [Number(range?.low ?? 0), Number(range?.high ?? 0)]
  const byProjection = new Map<AnyProjection, Checkpoint | undefined>()
  for (const projection of projections) {
    const found = await checkpoints(db).findOne({ _id: checkpointId(projection, topic, partition) })
    if (found !== null && found.offset < low) throw new Error(`Kafka has deleted messages of partition ${partition} that ${projection.collection} has not seen: from ${found.offset} to ${low}`)
    if (found !== null && found.offset > high) throw new Error(`Partition ${partition} ends at ${high}, before the checkpoint ${found.offset} of ${projection.collection}: the topic is another than before`)
    byProjection.set(projection, found ?? undefined)
  }
  return { byProjection, start: Math.min(...[...byProjection.values()].map(found => found?.offset ?? low)) }
}

async function project (options: ConsumeOptions, partition: number, messages: readonly RawMessage[], at: Positions) {
  const { client, db, topic, projections, log, applied } = options
  const { events, deadLetters } = read(messages, projections)
  const next = Number(messages.at(-1)!.offset) + 1
  for (const { message: { offset }, reason } of deadLetters) log.warn({ partition, offset, reason }, 'message kept as a dead letter')
  await Promise.all(projections.map(async projection => {
    const from = at.byProjection.get(projection)
    const stretch: Stretch = {
      topic,
      partition,
      next,
      deadLetters: projection === projections[0] ? deadLetters : [], // one copy, whatever the number of projections
      // What this projection has applied before, and duplicates on the topic, are passed over.
      events: events.filter(({ message, envelope: { type, sequence } }) => type in projection.on && Number(message.offset) >= (from?.offset ?? 0) && sequence > (from?.sequence ?? ''))
    }
    if ((from?.offset ?? 0) >= next) return
    const { checkpoint, refused } = await apply(client, db, projection, withoutRepeats(stretch), from)
    at.byProjection.set(projection, checkpoint)
    applied(stretch.events.length - refused.length, refused.length + stretch.deadLetters.length)
    for (const { message: { offset }, reason } of refused) log.error({ partition, offset, reason, projection: projection.collection }, 'event kept as a dead letter')
  }))
  at.start = next
  const requestIds = [...new Set(events.map(({ envelope: { requestId } }) => requestId))].slice(0, 20) // enough to find a request by, in a line of bounded length
  log.info({ partition, from: messages[0]!.offset, to: messages.at(-1)!.offset, events: events.length, requestIds }, 'batch projected')
}

function read (messages: readonly RawMessage[], projections: readonly AnyProjection[]) {
  const events: { message: RawMessage, envelope: Envelope }[] = []
  const deadLetters: DeadLetter[] = []
  for (const message of messages) {
    try {
      const envelope = readMessage(message as never)
      if (!projections.some(({ on }) => envelope.type in on)) throw new UnreadableMessage(`no projection knows ${envelope.type}`)
      events.push({ message, envelope })
    } catch (error) {
      deadLetters.push({ message, reason: (error as Error).message })
    }
  }
  return { events, deadLetters }
}

// Sequences rise within a partition; one that does not was sent before.
function withoutRepeats (stretch: Stretch): Stretch {
  let last = ''
  return {
    ...stretch,
    events: stretch.events.filter(({ envelope: { sequence } }) => {
      const fresh = sequence > last
      if (fresh) last = sequence
      return fresh
    })
  }
}
