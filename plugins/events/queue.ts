/** What is read from the event log and not yet in Kafka: made into messages, without those that the topic has already. */
import type { Message } from 'kafkajs'
import { messageHeaders, type EventRow } from '@bifold/cqrs'
import { partitionOf } from '@bifold/kafka'
import { hex, type Committed, type Place, type Row } from './stream.ts'
import type { Tail } from './tail.ts'

export interface Outgoing { readonly end: Place, readonly messages: readonly OutgoingMessage[] }
export interface OutgoingMessage { readonly message: Message & { partition: number }, readonly position: number }

export interface Queue {
  /** Messages that wait or are being sent. */
  readonly messages: number
  /** True if all that was added is done. */
  readonly idle: boolean
  add (committed: Committed): void
  /** What was committed together as a whole, of `batchMax` messages together or one more; waits until there is one, or `wake`. */
  take (): Promise<Outgoing[]>
  done (): void
  wake (): void
}

export const batchMax = 1000 // messages, some 500 KB: half of Kafka's message.max.bytes for one partition's batch

/** @param tails what each partition has; `epoch` goes before the places in the sequences: it rises when they begin anew */
export function makeQueue (tails: readonly (Tail | undefined)[], epoch: number): Queue {
  const waiting: Outgoing[] = []
  let messages = 0
  let sending: Outgoing[] = []
  let awake = Promise.withResolvers<void>()
  const wake = () => awake.resolve()
  return {
    get messages () { return messages },
    get idle () { return waiting.length === 0 && sending.length === 0 },
    wake,
    add ({ place, end, rows }) {
      const all = rows.map((row, index) => ({ sequence: sequenceOf(epoch, place, index), partition: partitionOf(row['aggregate_id']!, tails.length), row }))
      const fresh = all.filter(({ sequence, partition }) => sequence > (tails[partition]?.sequence ?? ''))
      waiting.push({ end, messages: fresh.map(({ sequence, partition, row }) => outgoing(row, sequence, partition)) })
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

export const sequenceOf = (epoch: number, place: Place, index: number): string => `${hex(epoch, 8)}-${place}-${hex(index, 8)}`

/** A row of the event log as the message that is sent. */
export function outgoing (row: Row, sequence: string, partition: number): OutgoingMessage {
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
  return { message: { key: event.aggregateId, value: event.value, headers: messageHeaders(event, sequence), partition }, position: Number(row['position']) }
}
