/**
 * Writes and reads the records of Kafka's protocol, in the place of kafkajs's own functions (kafkajs.ts): those allocate 512 bytes
 * for each header that is written, and copy the object of all headers for each that is read. With CloudEvents' eleven that was a
 * third of the relay's time and a quarter of the projector's (docs/decisions/0009-records.md).
 */

interface Header { readonly [name: string]: Bytes | readonly Bytes[] | undefined }
type Bytes = Buffer | string | null

export interface Record { readonly offsetDelta?: number, readonly timestampDelta?: number, readonly key?: Bytes, readonly value?: Bytes, readonly headers?: Header }

/** What kafkajs takes for an encoder: it reads `buf` and `buffer`. */
export interface Encoded { readonly buf: Buffer, readonly buffer: Buffer, size (): number }

/** The part of kafkajs's decoder that is used: it is over one record, after its length. */
interface Decoder { readonly buffer: Buffer, offset: number }

interface Batch { readonly firstOffset: string, readonly firstTimestamp: string, readonly magicByte: number, readonly isControlBatch?: boolean, readonly timestampType?: number, readonly maxTimestamp?: string }

const small = 2 ** 30 // what a zigzag varint of 32 bits takes

/** Encodes a record (Kafka's protocol, "Record"), lengths first, into one buffer of the right size. */
export function encode ({ offsetDelta = 0, timestampDelta = 0, key = null, value = null, headers = {} }: Record): Encoded {
  if (Math.abs(timestampDelta) >= small) throw new RangeError(`A record ${timestampDelta} ms from the first of its batch`)
  let bodySize = 1 + varintSize(timestampDelta) + varintSize(offsetDelta) + bytesSize(key) + bytesSize(value)
  let count = 0
  for (const name of Object.keys(headers)) {
    for (const content of all(headers[name])) {
      bodySize += bytesSize(name) + bytesSize(content)
      count++
    }
  }
  bodySize += varintSize(count)
  const buffer = Buffer.allocUnsafe(varintSize(bodySize) + bodySize)
  let at = writeVarint(buffer, 0, bodySize)
  buffer[at++] = 0 // attributes: none are in use
  at = writeVarint(buffer, at, timestampDelta)
  at = writeVarint(buffer, at, offsetDelta)
  at = writeBytes(buffer, at, key)
  at = writeBytes(buffer, at, value)
  at = writeVarint(buffer, at, count)
  for (const name of Object.keys(headers)) {
    for (const content of all(headers[name])) at = writeBytes(buffer, writeBytes(buffer, at, name), content)
  }
  return { buf: buffer, buffer, size: () => buffer.length }
}

// A list of one that is made anew costs less than a list of all.
const all = (content: Bytes | readonly Bytes[] | undefined): readonly Bytes[] => Array.isArray(content) ? content : [content as Bytes]
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

/**
 * A record as kafkajs hands it on. What is read of it is made each time it is asked for: while thousands wait to be projected,
 * each is two objects on the heap instead of forty, which every collection of garbage would have to keep.
 */
class ReadRecord {
  readonly magicByte: number
  readonly isControlRecord: boolean
  readonly batchContext: Batch
  readonly #buffer: Buffer
  readonly #timestamp: number
  readonly #offset: number
  readonly #body: number

  constructor (buffer: Buffer, begin: number, batch: Batch) {
    const reader = new Reader(buffer, begin + 1)
    this.magicByte = batch.magicByte
    this.isControlRecord = batch.isControlBatch ?? false
    this.batchContext = batch
    this.#buffer = buffer
    this.#timestamp = Number(batch.firstTimestamp) + reader.varint()
    this.#offset = Number(batch.firstOffset) + reader.varint()
    this.#body = reader.at
  }

  get attributes () { return 0 } // none are in use
  get bytes () { return this.#buffer.length }
  get timestamp () { return this.batchContext.timestampType === logAppendTime && this.batchContext.maxTimestamp ? this.batchContext.maxTimestamp : String(this.#timestamp) }
  get offset () { return String(this.#offset) }
  get key () { return new Reader(this.#buffer, this.#body).bytes() }
  get value () { return new Reader(this.#buffer, this.#body).skip().bytes() }

  /** Values as text, which is what CloudEvents' headers are; kafkajs would give Buffers, each larger than what is in it. */
  get headers () {
    const reader = new Reader(this.#buffer, this.#body).skip().skip()
    const headers: { [name: string]: string | string[] | null } = {}
    const count = reader.varint()
    for (let index = 0; index < count; index++) {
      const name = reader.name(index)
      const content = reader.text()
      const value = Object.hasOwn(headers, name) ? [headers[name], content].flat() as string[] : content
      // Assigned, it would become the prototype of the headers.
      if (name === '__proto__') Object.defineProperty(headers, name, { value, enumerable: true, configurable: true, writable: true })
      else headers[name] = value
    }
    return headers
  }
}

const names: string[] = []
const namesMax = 32 // ours are eleven; a stranger's record may have any number

/** Reads Kafka's variable-length fields, one after the other. */
class Reader {
  readonly #buffer: Buffer
  at: number

  constructor (buffer: Buffer, at: number) {
    this.#buffer = buffer
    this.at = at
  }

  /** A zigzag number; exact up to 2^53. */
  varint (): number {
    let [value, unit, byte] = [0, 1, 0]
    do {
      byte = this.#buffer[this.at++]!
      value += (byte & 0x7f) * unit
      unit *= 0x80
    } while (byte > 0x7f)
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }

  bytes (): Buffer | null {
    const [begin, length] = this.#span()
    return length < 0 ? null : this.#buffer.subarray(begin, this.at)
  }

  text (): string | null {
    const [begin, length] = this.#span()
    return length < 0 ? null : this.#buffer.toString('utf8', begin, this.at)
  }

  /** The name of a header; mostly that of the record before at the same place, which needs no new string. */
  name (index: number): string {
    const [begin] = this.#span()
    const expected = names[index]
    if (expected !== undefined && expected.length === this.at - begin && this.#says(expected, begin)) return expected
    const name = this.#buffer.toString('utf8', begin, this.at)
    if (index < namesMax && name.length === this.at - begin) names[index] = name // in ASCII, a byte is a character
    return name
  }

  #says (text: string, begin: number): boolean {
    for (let index = 0; index < text.length; index++) {
      if (this.#buffer[begin + index] !== text.charCodeAt(index)) return false
    }
    return true
  }

  skip (): this {
    this.#span()
    return this
  }

  #span (): [number, number] {
    const length = this.varint()
    const begin = this.at
    this.at += Math.max(0, length)
    return [begin, length]
  }
}

/** Decodes a record, after its length. */
export function decode ({ buffer, offset }: Decoder, batchContext: Batch) {
  return new ReadRecord(buffer, offset, batchContext)
}
