/**
 * Arrays as parameters in PostgreSQL's binary format: nobody has to write or to read text between braces, which took 3.5 µs for
 * each event. (PostgreSQL's source, `array_recv`; a type's number is that of its elements in `pg_type`.)
 *
 * In a statement such a parameter is cast to the array's type: `unnest(${arrays.uuid(ids)}::uuid[])`.
 */

const numbers = { integer: 23, text: 25, json: 114, timestamptz: 1184, uuid: 2950 }
const headerBytes = 20
const lengthBytes = 4
const epochMs = Date.UTC(2000, 0, 1) // PostgreSQL counts from here, in microseconds

export const arrays = {
  text: (values: readonly string[]): Buffer => texts(numbers.text, values),
  /** Texts that are JSON. */
  json: (values: readonly string[]): Buffer => texts(numbers.json, values),
  /** With or without hyphens. */
  uuid: (values: readonly string[]): Buffer => fixed(numbers.uuid, 16, values, (buffer, value, at) => buffer.write(value.length === 32 ? value : value.replaceAll('-', ''), at, 'hex')),
  integer: (values: readonly number[]): Buffer => fixed(numbers.integer, 4, values, (buffer, value, at) => buffer.writeInt32BE(value, at)),
  timestamptz: (values: readonly Date[]): Buffer => fixed(numbers.timestamptz, 8, values, (buffer, value, at) => buffer.writeBigInt64BE(BigInt(value.getTime() - epochMs) * 1000n, at))
}

function texts (number: number, values: readonly string[]): Buffer {
  const buffer = begin(number, values.length, values.reduce((bytes, value) => bytes + lengthBytes + Buffer.byteLength(value), 0))
  let at = headerBytes
  for (const value of values) {
    const bytes = buffer.write(value, at + lengthBytes)
    buffer.writeInt32BE(bytes, at)
    at += lengthBytes + bytes
  }
  return buffer
}

function fixed<T> (number: number, bytes: number, values: readonly T[], write: (buffer: Buffer, value: T, at: number) => void): Buffer {
  const buffer = begin(number, values.length, values.length * (lengthBytes + bytes))
  let at = headerBytes
  for (const value of values) {
    buffer.writeInt32BE(bytes, at)
    write(buffer, value, at + lengthBytes)
    at += lengthBytes + bytes
  }
  return buffer
}

/** The header: dimensions, no nulls, the elements' type, how many, and the index of the first. */
function begin (number: number, count: number, bytes: number): Buffer {
  const buffer = Buffer.allocUnsafe(headerBytes + bytes)
  for (const [index, value] of [1, 0, number, count, 1].entries()) buffer.writeInt32BE(value, index * 4)
  return buffer
}
