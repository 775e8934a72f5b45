/** What is read from the event log and not yet in Kafka: made into messages, without those that the topic has already; bounded. */
import type { Message } from 'kafkajs'
import { messageHeaders, sequenceOf, type EventRow } from '@bifold/cqrs'
import { partitionOf } from '@bifold/kafka'
import type { Committed, Place, Row } from './stream.ts'
import { identityOf } from './tail.ts'

export interface Outgoing { readonly end: Place, readonly messages: readonly OutgoingMessage[] }
export interface OutgoingMessage { readonly message: Message & { partition: number }, readonly position: number, readonly bytes: number }

export interface Queue {
  /** Messages that wait or are being sent. */
  readonly messages: number
  /** True if it is to be given no more for now. */
  readonly full: boolean
  /** True if there is room again. */
  readonly roomy: boolean
  /** True if all that was added is done. */
  readonly idle: boolean
  add (committed: Committed): void
  /** What was committed together as a whole, of `batchMax` messages together or one more; waits until there is one, or `wake`. */
  take (): Promise<Outgoing[]>
  done (): void
  wake (): void
}

/** What the topic has already. */
export interface Known {
  /** Everything that was committed before this place. */
  readonly before: Place
  /** Of what was committed later, the events with these identities. */
  readonly identities: Set<string>
  /** Nothing that was committed from here on. */
  readonly from: Place
}

export const batchMax = 1000 // messages, some 500 KB
const batchBytesMax = 4 * 1024 * 1024 // some 700 KB for each partition: half of what the queue may hold is sent while the other half comes in
const messagesMax = 4000 // read ahead of Kafka, some 10 MB with their headers; beyond, the log waits in PostgreSQL
const bytesMax = 8 * 1024 * 1024 // of their values, where those are large: four times the room as strings and as what is sent

/** @param epoch goes before the places in the sequences: it rises when they begin anew */
export function makeQueue (partitions: number, epoch: number, { before, identities, from }: Known): Queue {
  const waiting: Outgoing[] = []
  let [messages, bytes] = [0, 0]
  let sending: Outgoing[] = []
  let awake = Promise.withResolvers<void>()
  const wake = () => awake.resolve()
  return {
    get messages () { return messages },
    get full () { return messages > messagesMax || bytes > bytesMax },
    get roomy () { return messages < messagesMax / 2 && bytes < bytesMax / 2 },
    get idle () { return waiting.length === 0 && sending.length === 0 },
    wake,
    add ({ place, end, rows }) {
      if (place >= from) identities.clear() // they have done their work
      const all = place < before ? [] : rows.map((row, index) => outgoing(row, sequenceOf(epoch, place, index), partitionOf(row['aggregate_id']!, partitions)))
      const fresh = identities.size === 0 ? all : all.filter(({ message }) => !identities.has(identityIn(message)))
      waiting.push({ end, messages: fresh })
      messages += fresh.length
      bytes += bytesOf(fresh)
      wake()
    },
    async take () {
      if (waiting.length === 0) await awake.promise
      awake = Promise.withResolvers<void>()
      let [taken, count, size] = [0, 0, 0]
      for (; taken < waiting.length && count < batchMax && size < batchBytesMax; taken++) {
        count += waiting[taken]!.messages.length
        size += bytesOf(waiting[taken]!.messages)
      }
      sending = waiting.splice(0, taken)
      return sending
    },
    done () {
      for (const transaction of sending) {
        messages -= transaction.messages.length
        bytes -= bytesOf(transaction.messages)
      }
      sending = []
    }
  }
}

const identityIn = ({ key, headers }: Message): string => identityOf({ id: String(key), version: Number(headers!['ce_version']), time: String(headers!['ce_time']) })

const bytesOf = (messages: readonly OutgoingMessage[]): number => messages.reduce((total, { bytes }) => total + bytes, 0)

/** A row of the event log as the message that is sent. */
export function outgoing (row: Row, sequence: string, partition: number): OutgoingMessage {
  const event: EventRow = {
    aggregate: row['aggregate']!,
    aggregateId: row['aggregate_id']!,
    version: Number(row['version']),
    type: row['type']!,
    schemaVersion: Number(row['schema_version'] ?? 1), // WAL of before there was the column
    value: row['value']!,
    requestId: row['request_id']!,
    traceparent: row['traceparent']!,
    time: new Date(row['time']!).toISOString()
  }
  return {
    message: { key: event.aggregateId, value: event.value, headers: messageHeaders(event, sequence), partition },
    position: Number(row['position']),
    bytes: Buffer.byteLength(event.value)
  }
}
