/** Sends messages to Kafka, and believes only what each partition has answered. */
import type { Message, Producer } from 'kafkajs'

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
