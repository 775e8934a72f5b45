/**
 * Streams the event log to Kafka: in commit order, confirmed to PostgreSQL only when Kafka has it.
 *
 * Every failure has one treatment: begin again at the confirmed place of the WAL, and skip what the topic has.
 */
import type { Admin, Kafka, Message, Producer } from 'kafkajs'
import { messageHeaders, type EventRow } from '@bifold/cqrs'
import { partitionOf } from '@bifold/kafka'
import { readTails, type Tail } from './tail.ts'
import { streamWal, type Wal } from './wal.ts'
import type { Lsn, Row, WalTransaction } from './pgoutput.ts'

export interface RelayOptions {
  readonly url: string
  readonly slot: string
  readonly publication: string
  readonly topic: string
  readonly kafka: Kafka
  readonly admin: Admin
  readonly signal: AbortSignal
  /** Told what Kafka has at the start. */
  readonly resumed: (tails: readonly Tail[]) => Promise<void>
  /** Told how many events are read from the WAL and not yet in Kafka. */
  readonly waiting: (events: number) => void
  /** Told what was sent: how many events, and the highest of their positions. */
  readonly sent: (events: number, position: number) => void
}

interface Outgoing { readonly end: Lsn, readonly messages: readonly OutgoingMessage[] }
interface OutgoingMessage { readonly message: Message & { partition: number }, readonly position: number }

const batchMax = 1000 // messages, some 500 KB: half of Kafka's message.max.bytes for one partition's batch
const bufferMax = 4000 // messages read ahead of Kafka, some 10 MB with their headers; beyond, the WAL waits in PostgreSQL

/** Relays until the signal; rejects when anything fails, and is then to be called again. */
export async function relay (options: RelayOptions, ready: () => void): Promise<void> {
  const { kafka, topic, signal, resumed, waiting, admin } = options
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false, retry: { retries: 5 } })
  await producer.connect()
  let wal: Wal | undefined
  try {
    const tails = await readTails(kafka, admin, topic)
    await resumed(tails.filter(tail => tail !== undefined))
    const queue = makeQueue(tails)
    wal = await streamWal(options, {
      transaction (transaction, { timeline, pause }) {
        queue.add(transaction, timeline)
        waiting(queue.messages)
        if (queue.messages > bufferMax) pause()
      },
      // Everything handed over is sent: what is left up to here is not ours.
      reached (lsn, { confirm }) { if (queue.idle) confirm(lsn) }
    })
    signal.addEventListener('abort', queue.wake, { once: true })
    wal.ended.catch(queue.wake)
    ready()
    await Promise.race([send(options, producer, wal, queue), wal.ended])
  } finally {
    waiting(0)
    await wal?.close().catch(() => {})
    await producer.disconnect().catch(() => {})
  }
}

async function send ({ topic, signal, waiting, sent }: RelayOptions, producer: Producer, wal: Wal, queue: Queue) {
  while (!signal.aborted) {
    const batch = await queue.take()
    if (batch.length === 0) continue
    const outgoing = batch.flatMap(({ messages }) => messages)
    if (outgoing.length > 0) await sendAll(producer, topic, outgoing.map(({ message }) => message))
    wal.confirm(batch.at(-1)!.end)
    queue.done()
    waiting(queue.messages)
    if (outgoing.length > 0) sent(outgoing.length, Math.max(...outgoing.map(({ position }) => position)))
    if (queue.messages < bufferMax / 2) wal.resume()
  }
}

/**
 * Sends messages and checks that each of their partitions was answered: kafkajs may resolve without, and then the messages
 * are lost (docs/decisions/0003-checked-sends.md).
 */
export async function sendAll (producer: Producer, topic: string, messages: readonly (Message & { partition: number })[]): Promise<void> {
  const written = new Set<number>()
  for (const { partition, errorCode } of await producer.send({ topic, acks: -1, messages: messages as Message[] })) {
    if (errorCode === 0) written.add(partition)
  }
  const missing = new Set(messages.map(({ partition }) => partition).filter(partition => !written.has(partition)))
  if (missing.size > 0) throw new Error(`Kafka did not confirm the partitions ${[...missing].join(', ')} of ${topic}`)
}

interface Queue {
  /** Messages that wait or are being sent. */
  readonly messages: number
  /** True if all that was added is done. */
  readonly idle: boolean
  add (transaction: WalTransaction, timeline: number): void
  /** Whole transactions, of `batchMax` messages together or one more; waits until there is one, or `wake`. */
  take (): Promise<Outgoing[]>
  done (): void
  wake (): void
}

function makeQueue (tails: readonly (Tail | undefined)[]): Queue {
  const waiting: Outgoing[] = []
  let messages = 0
  let sending: Outgoing[] = []
  let awake = Promise.withResolvers<void>()
  const wake = () => awake.resolve()
  return {
    get messages () { return messages },
    get idle () { return waiting.length === 0 && sending.length === 0 },
    wake,
    add ({ commit, end, rows }, timeline) {
      const all = rows.map((row, index) => {
        const sequence = `${hex(timeline, 8)}-${commit}-${hex(index, 8)}`
        const partition = partitionOf(row['aggregate_id']!, tails.length)
        return { sequence, partition, row }
      })
      const fresh = all.filter(({ sequence, partition }) => sequence > (tails[partition]?.sequence ?? ''))
      waiting.push({ end, messages: fresh.map(({ sequence, partition, row }) => ({ message: { ...toMessage(row, sequence), partition }, position: Number(row['position']) })) })
      messages += fresh.length
      wake()
    },
    async take () {
      if (waiting.length === 0) await awake.promise
      awake = Promise.withResolvers<void>()
      let taken = 0
      for (let count = 0; taken < waiting.length && count < batchMax; taken++) count += waiting[taken]!.messages.length
      sending = waiting.splice(0, taken)
      return sending
    },
    done () {
      for (const transaction of sending) messages -= transaction.messages.length
      sending = []
    }
  }
}

const hex = (number: number, digits: number) => number.toString(16).padStart(digits, '0')

function toMessage (row: Row, sequence: string): Message {
  const event: EventRow = {
    aggregate: row['aggregate']!,
    aggregateId: row['aggregate_id']!,
    version: Number(row['version']),
    type: row['type']!,
    value: row['value']!,
    requestId: row['request_id']!,
    traceparent: row['traceparent']!,
    time: new Date(row['time']!).toISOString()
  }
  return { key: event.aggregateId, value: event.value, headers: messageHeaders(event, sequence) }
}
