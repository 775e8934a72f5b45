/** Reads a topic partition by partition, from where the consumer's own store says, and hands it to a lane for each. */
import type { EachBatchPayload, Kafka } from 'kafkajs'
import { aborted } from '@bifold/service'
import { makeLanes, type LanesOptions } from './lanes.ts'
import { leave, type Member } from './leave.ts'

export interface ConsumeOptions extends LanesOptions {
  readonly kafka: Kafka
  /** Kafka's name for those who share the partitions. */
  readonly groupId: string
  /** How long Kafka may hold a fetch for which it has nothing. A partition that is resumed misses the fetch in flight, and may have to wait for so long; and so often Kafka is asked when nothing happens. */
  readonly fetchWaitMs: number
  readonly signal: AbortSignal
}

const fetchBytesMax = 256 * 1024 // of one partition: some 400 events; decoded they take ten times the room, and six partitions are read at once
const sessionMs = 6000 // Kafka's least: a consumer that was killed loses its partitions after this time
const heartbeatMs = 2000 // several in a session
const commitMs = 5000 // for people who look at the group's lag with Kafka's tools; the checkpoint is in the consumer's store

/** Those whose consumer has failed here, and for whom their group may still wait. */
const failed = new Set<Member>()

/** Consumes until the signal; rejects when anything fails, and is then to be called again. */
export async function consume (options: ConsumeOptions, ready: () => void): Promise<void> {
  const { kafka, topic, groupId, fetchWaitMs, signal } = options
  const before = [...failed].filter(member => member.groupId === groupId)
  if (before.length > 0) await leave(kafka, before)
  for (const member of before) failed.delete(member)
  const consumer = kafka.consumer({
    groupId,
    allowAutoTopicCreation: false,
    maxWaitTimeInMs: fetchWaitMs,
    maxBytesPerPartition: fetchBytesMax,
    sessionTimeout: sessionMs,
    heartbeatInterval: heartbeatMs,
    readUncommitted: true, // the relay writes outside transactions: one that a stranger leaves open must not hide what it has written
    retry: { retries: 3, restartOnFailure: async () => false }
  })
  const ended = Promise.withResolvers<void>()
  ended.promise.catch(() => {}) // a crash may come while nobody waits yet
  void aborted(signal).then(ended.resolve)
  consumer.on(consumer.events.CRASH, ({ payload: { error } }) => ended.reject((error as { cause?: Error }).cause ?? error))
  const lanes = makeLanes(options, consumer, ended.reject)
  let member: Member | undefined
  consumer.on(consumer.events.GROUP_JOIN, ({ payload: { memberId, memberAssignment } }) => {
    member = { groupId, memberId }
    // Where the partitions stand is asked of the store anew after each rebalance: another consumer may have had them.
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
      eachBatch: async ({ batch: { partition, messages, ...batch }, resolveOffset, isStale }: EachBatchPayload) => {
        const lane = lanes.of(partition)
        if (lane === undefined || isStale()) return // it was read before the lane began
        // Kafka has no longer what comes next, or not yet: kafkajs then goes on with the oldest that there is.
        const from = (batch as unknown as { fetchedOffset: string }).fetchedOffset
        if (Number(from) !== lane.next) return lanes.renew(partition, lane, `what was read begins at ${from}, not at ${lane.next}`)
        lane.add(messages)
        resolveOffset(messages.at(-1)!.offset)
      }
    })
    await ended.promise
  } catch (error) {
    if (member !== undefined) failed.add(member)
    throw error
  } finally {
    clearInterval(committing)
    await consumer.disconnect().catch(() => {})
    await lanes.stop()
  }
}
