/** Sends messages to Kafka, and believes only what each partition has answered. */
import type { Message, Producer } from 'kafkajs'

type Outgoing = Message & { partition: number }

// Kafka takes a batch of up to 1,048,588 bytes for a partition (`max.message.bytes`); kafkajs makes one of all that it is given.
const partitionBytesMax = 900 * 1024
const overheadBytes = 1000 // of a message beside its value: its key and its headers have half of that

/**
 * Sends messages, in their order for each partition, and checks that each of their partitions was answered: kafkajs may resolve
 * without, and then the messages are lost (docs/decisions/0003-checked-sends.md).
 *
 * @returns the offset of each
 */
export async function sendAll (producer: Producer, topic: string, messages: readonly Outgoing[]): Promise<number[]> {
  const offsets: number[] = []
  for (const part of parts(messages)) offsets.push(...await sendPart(producer, topic, part))
  return offsets
}

/** Consecutive parts, each with no more for a partition than Kafka takes at once. */
function parts (messages: readonly Outgoing[]): Outgoing[][] {
  const parts: Outgoing[][] = [[]]
  let bytes = new Map<number, number>()
  for (const message of messages) {
    const size = Buffer.byteLength(message.value ?? '') + overheadBytes
    if ((bytes.get(message.partition) ?? 0) + size > partitionBytesMax && parts.at(-1)!.length > 0) {
      parts.push([])
      bytes = new Map()
    }
    parts.at(-1)!.push(message)
    bytes.set(message.partition, (bytes.get(message.partition) ?? 0) + size)
  }
  return parts
}

async function sendPart (producer: Producer, topic: string, messages: Outgoing[]): Promise<number[]> {
  const written = new Map<number, number>()
  for (const { partition, errorCode, baseOffset } of await producer.send({ topic, acks: -1, messages: messages as Message[] })) {
    if (errorCode === 0) written.set(partition, Number(baseOffset))
  }
  const missing = new Set(messages.map(({ partition }) => partition).filter(partition => !written.has(partition)))
  if (missing.size > 0) throw new Error(`Kafka did not confirm the partitions ${[...missing].join(', ')} of ${topic}`)
  return messages.map(({ partition }) => {
    const offset = written.get(partition)!
    written.set(partition, offset + 1)
    return offset
  })
}
