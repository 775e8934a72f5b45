/**
 * Asks for a topic's id, which tells it from another that has had its name: Kafka gives each topic one (KIP-516). kafkajs asks for
 * metadata in a version that has no ids yet, so its admin client is given a question more.
 */
import { createRequire } from 'node:module'
import type { Admin } from 'kafkajs'

interface Encoder {
  writeUVarIntBytes (bytes?: Buffer): Encoder
  writeUVarIntArray (items: readonly Encoder[]): Encoder
  writeUVarIntString (text: string): Encoder
  writeBuffer (bytes: Buffer): Encoder
  writeBoolean (value: boolean): Encoder
}

interface Decoder {
  readonly buffer: Buffer
  offset: number
  readTaggedFields (): unknown
  readUVarIntArray (read: (decoder: Decoder) => unknown): unknown[] | null
  readUVarInt (): number
  readUVarIntString (): string | null
  readInt16 (): number
  readInt32 (): number
}

interface Broker { readonly connectionPool: { send (request: object): Promise<unknown> } }

interface Cluster {
  readonly brokerPool: {
    refreshMetadataIfNecessary (topics: readonly string[]): Promise<void>
    /** Resolves with null if no broker has answered as it should. */
    withBroker<T> (ask: (found: { broker: Broker }) => Promise<T>): Promise<T | null>
  }
}

interface WithIds { topicId (topic: string): Promise<string> }

type MakeAdmin = (options: { readonly cluster: Cluster }) => object

const require = createRequire(import.meta.url)
const nobody = Buffer.alloc(16) // the id of no topic: it is asked for by its name
const [apiKey, apiVersion] = [3, 10] // Kafka's protocol, "Metadata": since 2.8; the first with ids

/** Wraps what kafkajs makes an admin client with. */
export const knowingIds = (make: MakeAdmin): MakeAdmin => options => Object.assign(make(options), {
  async topicId (topic) {
    const { brokerPool } = options.cluster
    await brokerPool.refreshMetadataIfNecessary([topic])
    let cause: unknown
    const id = await brokerPool.withBroker(async ({ broker }) => await broker.connectionPool.send(question(topic)).catch(error => {
      cause = error // kafkajs passes over it, and asks the next broker
      throw error
    }))
    if (id === null) throw new Error(`Kafka does not tell the id of the topic ${topic}`, { cause })
    return id as string
  }
} satisfies WithIds)

/** The topic's id as Kafka's tools show it; a broker that has not heard of the latest change yet tells of the topic before. */
export const topicIdOf = async (admin: Admin, topic: string): Promise<string> => await (admin as Admin & WithIds).topicId(topic)

function question (topic: string) {
  const Encoder = require('kafkajs/src/protocol/encoder') as new () => Encoder
  const Decoder = require('kafkajs/src/protocol/decoder') as new (payload: Buffer) => Decoder
  const encode = async () => new Encoder()
    .writeUVarIntBytes() // the header's tags: none
    .writeUVarIntArray([new Encoder().writeBuffer(nobody).writeUVarIntString(topic).writeUVarIntBytes()])
    .writeBoolean(false) // do not make it
    .writeBoolean(false).writeBoolean(false) // without what the asker may do
    .writeUVarIntBytes()
  return {
    request: { apiKey, apiVersion, apiName: 'Metadata', encode },
    response: { decode: async (payload: Buffer) => read(new Decoder(payload)), parse: async ({ error, id }: ReturnType<typeof read>) => parse(topic, error, id) }
  }
}

function read (decoder: Decoder) {
  decoder.readTaggedFields()
  const clientSideThrottleTime = decoder.readInt32()
  decoder.readUVarIntArray(() => {
    decoder.readInt32() // of each broker its number, host, port and rack
    decoder.readUVarIntString()
    decoder.readInt32()
    decoder.readUVarIntString()
    decoder.readTaggedFields()
  })
  decoder.readUVarIntString() // the cluster
  decoder.readInt32() // its controller
  decoder.readUVarInt() // the topics: one
  const error = decoder.readInt16()
  decoder.readUVarIntString()
  // What follows, its partitions among it, is read elsewhere.
  return { clientSideThrottleTime, error, id: decoder.buffer.toString('base64url', decoder.offset, decoder.offset + nobody.length) }
}

function parse (topic: string, error: number, id: string): string {
  if (error !== 0) throw new Error(`Kafka knows no topic ${topic} (error ${error})`)
  return id
}
