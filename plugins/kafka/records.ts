/**
 * Writes and reads the records of kafkajs without the garbage that it makes of headers: it allocates 512 bytes for each header that
 * it writes, and copies the object of all headers for each that it reads. With CloudEvents' eleven that was a third of the relay's
 * time and a quarter of the projector's (docs/decisions/0009-records.md).
 *
 * Takes the place of two functions in kafkajs 2.2.4, which is pinned and whose development has ended. To be imported before kafkajs;
 * where kafkajs was loaded before, it stays as it is, only slower.
 */
import { createRequire } from 'node:module'

interface Header { readonly [name: string]: Bytes | readonly Bytes[] | undefined }
type Bytes = Buffer | string | null

export interface Record { readonly offsetDelta?: number, readonly timestampDelta?: number, readonly key?: Bytes, readonly value?: Bytes, readonly headers?: Header }

/** What kafkajs takes for an encoder: it reads `buf` and `buffer`. */
export interface Encoded { readonly buf: Buffer, readonly buffer: Buffer, size (): number }

/** The part of kafkajs's decoder that is used. */
interface Decoder { readInt8 (): number, readVarInt (): number, readVarLong (): bigint, readVarIntBytes (): Buffer | null, readVarIntString (): string }

interface Batch { readonly firstOffset: string, readonly firstTimestamp: string, readonly magicByte: number, readonly isControlBatch?: boolean, readonly timestampType?: number, readonly maxTimestamp?: string }

const small = 2 ** 30 // what a zigzag varint of 32 bits takes

/** Encodes a record (Kafka's protocol, "Record"), lengths first, into one buffer of the right size. */
export function encode ({ offsetDelta = 0, timestampDelta = 0, key = null, value = null, headers = {} }: Record): Encoded {
  if (Math.abs(timestampDelta) >= small) throw new RangeError(`A record ${timestampDelta} ms from the first of its batch`)
  const entries = Object.entries(headers).flatMap(([name, given]): [string, Bytes][] => Array.isArray(given) ? given.map(each => [name, each]) : [[name, given as Bytes]])
  let bodySize = 1 + varintSize(timestampDelta) + varintSize(offsetDelta) + bytesSize(key) + bytesSize(value) + varintSize(entries.length)
  for (const [name, content] of entries) bodySize += bytesSize(name) + bytesSize(content)
  const buffer = Buffer.allocUnsafe(varintSize(bodySize) + bodySize)
  let at = writeVarint(buffer, 0, bodySize)
  buffer[at++] = 0 // attributes: none are in use
  at = writeVarint(buffer, at, timestampDelta)
  at = writeVarint(buffer, at, offsetDelta)
  at = writeBytes(buffer, at, key)
  at = writeBytes(buffer, at, value)
  at = writeVarint(buffer, at, entries.length)
  for (const [name, content] of entries) at = writeBytes(buffer, writeBytes(buffer, at, name), content)
  return { buf: buffer, buffer, size: () => buffer.length }
}

const length = (bytes: Bytes): number => bytes === null ? -1 : typeof bytes === 'string' ? Buffer.byteLength(bytes) : bytes.length
const bytesSize = (bytes: Bytes): number => varintSize(length(bytes)) + Math.max(0, length(bytes))

function varintSize (value: number): number {
  const zigzag = ((value << 1) ^ (value >> 31)) >>> 0
  return zigzag < 2 ** 7 ? 1 : zigzag < 2 ** 14 ? 2 : zigzag < 2 ** 21 ? 3 : zigzag < 2 ** 28 ? 4 : 5
}

function writeVarint (buffer: Buffer, at: number, value: number): number {
  let left = ((value << 1) ^ (value >> 31)) >>> 0
  for (; left > 0x7f; left >>>= 7) buffer[at++] = (left & 0x7f) | 0x80
  buffer[at++] = left
  return at
}

function writeBytes (buffer: Buffer, at: number, bytes: Bytes): number {
  const begin = writeVarint(buffer, at, length(bytes))
  if (bytes === null) return begin
  return begin + (typeof bytes === 'string' ? buffer.write(bytes, begin) : bytes.copy(buffer, begin))
}

const logAppendTime = 1

/** Decodes a record, after its length. */
export function decode (decoder: Decoder, batchContext: Batch) {
  const { firstOffset, firstTimestamp, magicByte, isControlBatch = false, timestampType, maxTimestamp } = batchContext
  const attributes = decoder.readInt8()
  const timestamp = Number(firstTimestamp) + Number(decoder.readVarLong())
  const offset = Number(firstOffset) + decoder.readVarInt()
  const key = decoder.readVarIntBytes()
  const value = decoder.readVarIntBytes()
  const headers: { [name: string]: Buffer | Buffer[] | null } = {}
  for (let left = decoder.readVarInt(); left > 0; left--) {
    const name = decoder.readVarIntString()
    const content = decoder.readVarIntBytes()
    const before = headers[name]
    headers[name] = before === undefined ? content : [before, content].flat() as Buffer[]
  }
  return { magicByte, attributes, timestamp: timestampType === logAppendTime && maxTimestamp ? maxTimestamp : String(timestamp), offset: String(offset), key, value, headers, isControlRecord: isControlBatch, batchContext }
}

const require = createRequire(import.meta.url)
// An import that is linked, but not run yet, is in the cache too.
if (require.cache[require.resolve('kafkajs')]?.loaded !== true) {
  for (const [path, ours] of [['kafkajs/src/protocol/recordBatch/record/v0', encode], ['kafkajs/src/protocol/recordBatch/record/v0/decoder', decode]] as const) {
    require(path)
    require.cache[require.resolve(path)]!.exports = ours
  }
}
