/** Reads the end of the topic: the last sequence that each partition has, so that nothing is sent to it twice. */
import { randomUUID } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import type { Admin, Kafka } from 'kafkajs'

/** The last message of ours in a partition. */
export interface Tail { readonly sequence: string, readonly id: string, readonly version: number }

const windowSize = 100 // messages from the end; more only if none of them is ours
const readMs = 30_000 // a topic that cannot be read for so long is away

/** The last message of ours in each partition; undefined where there is none. */
export async function readTails (kafka: Kafka, admin: Admin, topic: string): Promise<(Tail | undefined)[]> {
  const offsets = (await admin.fetchTopicOffsets(topic)).sort((a, b) => a.partition - b.partition)
  const tails = new Array<Tail | undefined>(offsets.length).fill(undefined)
  let open = offsets.map(({ partition, low, high }) => ({ partition, low: BigInt(low), high: BigInt(high) })).filter(({ low, high }) => high > low)
  for (let size = BigInt(windowSize); open.length > 0; size *= 100n) {
    const windows = open.map(range => ({ ...range, from: range.high - size > range.low ? range.high - size : range.low }))
    await readWindows(kafka, admin, topic, windows, (partition, tail) => {
      if (tail.sequence > (tails[partition]?.sequence ?? '')) tails[partition] = tail
    })
    // Somebody else's messages only: look further back, unless that was all.
    open = windows.filter(({ partition, from, low }) => tails[partition] === undefined && from > low)
  }
  return tails
}

interface Window { readonly partition: number, readonly from: bigint, readonly high: bigint }

async function readWindows (kafka: Kafka, admin: Admin, topic: string, windows: readonly Window[], found: (partition: number, tail: Tail) => void) {
  // kafkajs reads through groups only; this one is ours alone, and removed again.
  const groupId = `bifold-relay-tail-${randomUUID()}`
  const consumer = kafka.consumer({ groupId, allowAutoTopicCreation: false, maxWaitTimeInMs: 100, retry: { retries: 2 } })
  const left = new Map(windows.map(({ partition, high }) => [partition, high]))
  const done = Promise.withResolvers<void>()
  try {
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    consumer.on(consumer.events.CRASH, ({ payload }) => done.reject(payload.error))
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: async ({ batch }) => {
        for (const { headers, key, offset } of batch.messages) {
          const sequence = headers?.['ce_sequence']?.toString()
          if (sequence !== undefined && key !== null) found(batch.partition, { sequence, id: key.toString(), version: Number(headers?.['ce_version']?.toString()) })
          if (BigInt(offset) >= (left.get(batch.partition) ?? 0n) - 1n) left.delete(batch.partition)
        }
        if (left.size === 0) done.resolve()
      }
    })
    for (const { partition, from } of windows) consumer.seek({ topic, partition, offset: String(from) })
    const late = new AbortController()
    await Promise.race([done.promise, setTimeout(readMs, undefined, { signal: late.signal }).then(() => { throw new Error(`The end of ${topic} could not be read within ${readMs} ms`) })])
    late.abort()
  } finally {
    await consumer.disconnect()
    await admin.deleteGroups([groupId]).catch(() => {}) // it expires by itself
  }
}
