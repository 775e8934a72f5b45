/** Reads the end of the topic: the last sequence that each partition has, so that nothing is sent to it twice. */
import { randomUUID } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import type { Admin, Kafka, KafkaMessage } from 'kafkajs'

/** The last message of ours in a partition. */
export interface Tail { readonly sequence: string, readonly id: string, readonly version: number }

const windowSize = 100 // messages from the end; more only if none of them is ours
const readMs = 30_000 // a topic that cannot be read for so long is away

// What anybody else has put on the topic must not be taken for ours: a relay writes its sequences, and UUIDs as keys.
const ours = { sequence: /^[0-9a-f]{8}-[0-9a-f]{16}-[0-9a-f]{8}$/, id: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, version: /^[1-9]\d{0,9}$/ }

function tailOf ({ key, headers }: KafkaMessage): Tail | undefined {
  const [sequence = '', id = '', version = ''] = [headers?.['ce_sequence'], key, headers?.['ce_version']].map(value => value?.toString())
  return ours.sequence.test(sequence) && ours.id.test(id) && ours.version.test(version) ? { sequence, id, version: Number(version) } : undefined
}

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
  done.promise.catch(() => {}) // a crash may come while nobody waits yet
  const late = new AbortController()
  try {
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    consumer.on(consumer.events.CRASH, ({ payload }) => done.reject(payload.error))
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) {
          const { offset } = message
          const tail = tailOf(message)
          if (tail !== undefined) found(batch.partition, tail)
          if (BigInt(offset) >= (left.get(batch.partition) ?? 0n) - 1n) left.delete(batch.partition)
        }
        if (left.size === 0) done.resolve()
      }
    })
    for (const { partition, from } of windows) consumer.seek({ topic, partition, offset: String(from) })
    await Promise.race([done.promise, setTimeout(readMs, undefined, { signal: late.signal }).then(() => { throw new Error(`The end of ${topic} could not be read within ${readMs} ms`) })])
  } finally {
    late.abort()
    await consumer.disconnect()
    await admin.deleteGroups([groupId]).catch(() => {}) // it expires by itself
  }
}
