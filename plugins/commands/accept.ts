/** Puts commands into the queue: those that come while one send is in flight share the next. */
import type { Producer } from 'kafkajs'
import pTimeout from 'p-timeout'
import { Overloaded, Unavailable } from '@bifold/cqrs'
import { partitionOf, sendAll } from '@bifold/kafka'

interface Entry { readonly key: string, readonly value: string, resolve (place: { partition: number, offset: number }): void, reject (error: Error): void }

const sendMax = 500 // commands in a send; larger ones take longer and are not faster
const waitingMax = 5000 // that wait for a send: half a second of work; one more is refused
const sendMs = 5000 // as long as a client is kept waiting for a server that is away

/** Sends through a producer as long as there is one. */
export function makeSender (topic: string) {
  let open: { readonly producer: Producer, readonly partitions: number, readonly failed: (error: unknown) => void } | undefined
  const waiting: Entry[] = []
  let sending: Promise<void> | undefined

  const run = async () => {
    while (waiting.length > 0) {
      const some = waiting.splice(0, sendMax)
      const through = open
      try {
        if (through === undefined) throw new Error('there is no producer')
        const messages = some.map(({ key, value }) => ({ key, value, partition: partitionOf(key, through.partitions) }))
        const offsets = await pTimeout(sendAll(through.producer, topic, messages), { milliseconds: sendMs })
        some.forEach(({ resolve }, index) => resolve({ partition: messages[index]!.partition, offset: offsets[index]! }))
      } catch (error) {
        // They may be on the topic all the same, and are then done: who sends again with the same Idempotency-Key does nothing twice.
        for (const { reject } of some) reject(new Unavailable('Kafka'))
        if (open === through) open = undefined
        through?.failed(error)
      }
    }
    sending = undefined
  }

  return {
    /** From now on; `failed` is told when this producer is of no use any more. */
    begin (producer: Producer, partitions: number, failed: (error: unknown) => void) { open = { producer, partitions, failed } },
    /** Refuses what comes; resolves when what has come is sent. */
    async end () {
      await sending
      open = undefined
    },
    /** Resolves when Kafka has it for good: where it lies. Rejects with UNAVAILABLE or OVERLOADED. */
    async send (key: string, value: string): Promise<{ partition: number, offset: number }> {
      if (open === undefined) throw new Unavailable('Kafka')
      if (waiting.length >= waitingMax) throw new Overloaded()
      const { promise, resolve, reject } = Promise.withResolvers<{ partition: number, offset: number }>()
      waiting.push({ key, value, resolve, reject })
      sending ??= Promise.resolve().then(run)
      return await promise
    }
  }
}
