/** Reads the topic itself: the last message of ours that each partition has, so that nothing is sent to it twice. */
import { randomUUID } from 'node:crypto'
import type { Admin, Kafka, KafkaMessage } from 'kafkajs'

/** A message of ours. */
export interface Tail { readonly sequence: string, readonly id: string, readonly version: number, readonly time: string }

const windowSize = 100 // messages from the end; more only if none of them is ours
const silentMs = 30_000 // a topic that gives nothing for so long is away

// What anybody else has put on the topic must not be taken for ours: a relay writes its sequences, and UUIDs as keys.
const ours = {
  sequence: /^[0-9a-f]{8}-[0-9a-f]{16}-[0-9a-f]{8}$/,
  id: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  version: /^[1-9]\d{0,9}$/,
  time: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
}

/** @returns undefined if the message is not ours */
export function tailOf ({ key, headers }: KafkaMessage): Tail | undefined {
  const [sequence = '', id = '', version = '', time = ''] = [headers?.['ce_sequence'], key, headers?.['ce_version'], headers?.['ce_time']].map(value => value?.toString())
  return ours.sequence.test(sequence) && ours.id.test(id) && ours.version.test(version) && ours.time.test(time) ? { sequence, id, version: Number(version), time } : undefined
}

/** The last message of ours in each partition; undefined where there is none. */
export async function readTails (kafka: Kafka, admin: Admin, topic: string): Promise<(Tail | undefined)[]> {
  const offsets = (await admin.fetchTopicOffsets(topic)).sort((a, b) => a.partition - b.partition)
  const tails = new Array<Tail | undefined>(offsets.length).fill(undefined)
  let open = offsets.map(({ partition, low, high }) => ({ partition, low: BigInt(low), high: BigInt(high) })).filter(({ low, high }) => high > low)
  for (let size = BigInt(windowSize); open.length > 0; size *= 100n) {
    const windows = open.map(range => ({ ...range, from: range.high - size > range.low ? range.high - size : range.low }))
    await readRanges(kafka, admin, topic, windows, async messages => {
      for (const { partition, message } of messages) {
        const tail = tailOf(message)
        if (tail !== undefined && tail.sequence > (tails[partition]?.sequence ?? '')) tails[partition] = tail
      }
    })
    // Somebody else's messages only: look further back, unless that was all.
    open = windows.filter(({ partition, from, low }) => tails[partition] === undefined && from > low)
  }
  return tails
}

/** A part of a partition: from this message on, up to the one before `high`. */
export interface Range { readonly partition: number, readonly from: bigint, readonly high: bigint }

/** Reads ranges, batch by batch, each partition in its order. */
export async function readRanges (kafka: Kafka, admin: Admin, topic: string, ranges: readonly Range[], found: (messages: readonly { partition: number, message: KafkaMessage }[]) => Promise<void>): Promise<void> {
  if (ranges.length === 0) return
  // kafkajs reads through groups only; this one is ours alone, and removed again.
  const groupId = `bifold-relay-tail-${randomUUID()}`
  const consumer = kafka.consumer({ groupId, allowAutoTopicCreation: false, maxWaitTimeInMs: 100, retry: { retries: 2 } })
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
