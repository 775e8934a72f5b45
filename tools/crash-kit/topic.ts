/** Reads the whole topic, partition by partition, as a plain consumer does. */
import { randomUUID } from 'node:crypto'
import { connect } from '@bifold/kafka'

export interface Message { readonly id: string, readonly version: number, readonly partition: number }

const silent = { warn () {}, debug () {} }

export async function readTopic (brokers: string, topic = 'cqrstopic'): Promise<Message[]> {
  const kafka = connect(brokers, silent as never)
  const admin = kafka.admin()
  await admin.connect()
  const left = new Map((await admin.fetchTopicOffsets(topic)).filter(({ low, high }) => low !== high).map(({ partition, high }) => [partition, Number(high)]))
  await admin.disconnect()
  const messages: Message[] = []
  const read = new Map<number, bigint>()
  if (left.size === 0) return messages
  const consumer = kafka.consumer({ groupId: `crash-kit-${randomUUID()}`, maxWaitTimeInMs: 100 })
  const done = Promise.withResolvers<void>()
  consumer.on(consumer.events.CRASH, ({ payload }) => done.reject(payload.error))
  try {
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message: { key, headers, offset, ...message } }) => {
        // A consumer that loses its place in the group begins at the beginning again: read twice is not written twice.
        if (BigInt(offset) <= (read.get(partition) ?? -1n)) return
        read.set(partition, BigInt(offset))
        // A marker of Kafka's own is passed over.
        if (!('isControlRecord' in message && message.isControlRecord === true)) messages.push({ partition, id: key?.toString() ?? '', version: Number(headers?.['ce_version']?.toString()) })
        if (Number(offset) >= left.get(partition)! - 1) left.delete(partition)
        if (left.size === 0) done.resolve()
      }
    })
    await done.promise
  } finally {
    await consumer.disconnect()
  }
  return messages
}
