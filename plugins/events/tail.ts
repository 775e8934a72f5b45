/** Reads the topic itself: which events it has behind the relay's checkpoint, so that none is sent to it twice. */
import { randomUUID } from 'node:crypto'
import type { Admin, Kafka, KafkaMessage } from 'kafkajs'
import { epochOf, isSequence } from '@bifold/cqrs'

/** An event on the topic. */
export interface Sent { readonly sequence: string, readonly id: string, readonly version: number, readonly time: string }

/** What tells an event from all others, also from one that a restored backup has forgotten and that was made again. */
export const identityOf = ({ id, version, time }: Omit<Sent, 'sequence'>): string => `${id}/${version}/${time}`

/** What the topic has behind some offsets. */
export interface Seen {
  /** The identities of the events; undefined if they are more than the relay bears in mind. */
  readonly identities: Set<string> | undefined
  /** The last event of each partition; undefined where there is none. */
  readonly tails: readonly (Sent | undefined)[]
  readonly epoch: number
}

const seenMax = 300_000 // some 30 MB. The checkpoint moves every 5 s, in which a relay sends 100,000 at most
const silentMs = 30_000 // a topic that gives nothing for so long is away

// What anybody else has put on the topic must not be taken for ours: a relay has UUIDs for keys.
const ours = {
  id: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  version: /^[1-9]\d{0,8}$/, // below 2^31, as in PostgreSQL
  time: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
}

/**
 * @param epoch the highest that is known
 * @returns undefined if the message is not ours
 */
export function sentOf ({ key, headers }: KafkaMessage, epoch: number): Sent | undefined {
  const [sequence = '', id = '', version = '', time = ''] = [headers?.['ce_sequence'], key, headers?.['ce_version'], headers?.['ce_time']].map(value => value?.toString())
  const isOurs = isSequence(sequence, epoch) && ours.id.test(id) && ours.version.test(version) && ours.time.test(time)
  return isOurs ? { sequence, id, version: Number(version), time } : undefined
}

/** Where each partition ends. */
export interface End { readonly partition: number, readonly low: string, readonly high: string }

/** What lies between these offsets, or the partition's first message, and its end. */
export function rangesFrom (ends: readonly End[], offsets: readonly number[]): Range[] {
  return ends.map(({ partition, low, high }) => ({ partition, from: BigInt(Math.max(Number(low), offsets[partition] ?? 0)), high: BigInt(high) })).filter(({ from, high }) => from < high)
}

/** Reads which events the topic has behind these offsets. */
export async function readSeen (kafka: Kafka, admin: Admin, topic: string, offsets: readonly number[], epochKnown: number): Promise<Seen> {
  const ends = await admin.fetchTopicOffsets(topic)
  const tails = new Array<Sent | undefined>(ends.length).fill(undefined)
  let identities: Set<string> | undefined = new Set()
  let epoch = 0
  await readRanges(kafka, admin, topic, rangesFrom(ends, offsets), async messages => {
    for (const { partition, message } of messages) {
      const sent = sentOf(message, epochKnown)
      if (sent === undefined) continue
      tails[partition] = sent
      epoch = Math.max(epoch, epochOf(sent.sequence))
      identities?.add(identityOf(sent))
    }
    if ((identities?.size ?? 0) > seenMax) identities = undefined
  })
  return { identities, tails, epoch }
}

/** A part of a partition: from this message on, up to the one before `high`. */
export interface Range { readonly partition: number, readonly from: bigint, readonly high: bigint }

/** Reads ranges, batch by batch, each partition in its order. */
export async function readRanges (kafka: Kafka, admin: Admin, topic: string, ranges: readonly Range[], found: (messages: readonly { partition: number, message: KafkaMessage }[]) => Promise<void>): Promise<void> {
  if (ranges.length === 0) return
  // kafkajs reads through groups only; this one is ours alone, and removed again.
  const groupId = `bifold-relay-tail-${randomUUID()}`
  const consumer = kafka.consumer({ groupId, allowAutoTopicCreation: false, maxWaitTimeInMs: 100, readUncommitted: true, retry: { retries: 2 } })
  const left = new Map(ranges.map(({ partition, high }) => [partition, high]))
  const done = Promise.withResolvers<void>()
  done.promise.catch(() => {}) // a crash may come while nobody waits yet
  const silence = setTimeout(() => done.reject(new Error(`The topic ${topic} could not be read: nothing came for ${silentMs} ms`)), silentMs)
  try {
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    consumer.on(consumer.events.CRASH, ({ payload }) => done.reject(payload.error))
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: async ({ batch: { partition, messages }, resolveOffset }) => {
        silence.refresh()
        const high = left.get(partition)
        if (high === undefined) return
        await found(messages.filter(({ offset }) => BigInt(offset) < high).map(message => ({ partition, message })))
        const last = messages.at(-1)!.offset
        resolveOffset(last)
        if (BigInt(last) >= high - 1n) left.delete(partition)
        if (left.size === 0) done.resolve()
      }
    })
    for (const { partition, from } of ranges) consumer.seek({ topic, partition, offset: String(from) })
    await done.promise
  } finally {
    clearTimeout(silence)
    await consumer.disconnect()
    await admin.deleteGroups([groupId]).catch(() => {}) // it expires by itself
  }
}
