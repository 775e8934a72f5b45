/** Our records against those of kafkajs: the same bytes out, the same fields in. */
import { createRequire } from 'node:module'
import t from 'tap'
import fc from 'fast-check'
import 'kafkajs' // loaded first, so that its own functions stay in place
import { decode, encode } from './records.ts'

const require = createRequire(import.meta.url)
const kafkajs = {
  encode: require('kafkajs/src/protocol/recordBatch/record/v0'),
  decode: require('kafkajs/src/protocol/recordBatch/record/v0/decoder'),
  Decoder: require('kafkajs/src/protocol/decoder')
}

const bytes = fc.oneof(fc.string({ unit: 'grapheme' }), fc.uint8Array().map(array => Buffer.from(array)))
const record = fc.record({
  offsetDelta: fc.nat({ max: 100_000 }),
  timestampDelta: fc.integer({ min: -100_000, max: 100_000_000 }),
  key: fc.option(bytes),
  value: fc.option(fc.oneof(bytes, fc.nat({ max: 100_000 }).map(size => Buffer.alloc(size, 'x')))),
  // Of a header with the name of what every object has, kafkajs takes that for its first value: the last test says what we do.
  headers: fc.dictionary(fc.string({ unit: 'grapheme' }).filter(name => !(name in {})), fc.oneof(bytes, fc.array(bytes, { minLength: 1, maxLength: 3 })), { noNullPrototype: true })
})

t.test('a record is written as kafkajs writes it', async t => {
  t.not(encode, kafkajs.encode)
  fc.assert(fc.property(record, given => {
    const [own, theirs] = [encode(given), kafkajs.encode(given)]
    return own.buffer.equals(theirs.buffer) && own.size() === theirs.size()
  }))
})

t.test('a record is read as kafkajs reads it', async t => {
  const batch = { firstOffset: '12345678901', firstTimestamp: '1700000000000', magicByte: 2, timestampType: 0, maxTimestamp: '1700000000500' }
  t.not(decode, kafkajs.decode)
  fc.assert(fc.property(record, fc.boolean(), (given, appended) => {
    const context = { ...batch, timestampType: appended ? 1 : 0 }
    const read = (decoder: typeof decode) => {
      const from = new kafkajs.Decoder(encode(given).buffer)
      from.readVarInt() // the length
      const { magicByte, attributes, timestamp, offset, key, value, headers, isControlRecord, batchContext } = decoder(from, context)
      return { magicByte, attributes, timestamp, offset, key, value, headers, isControlRecord, batchContext }
    }
    const theirs = read(kafkajs.decode)
    const text = (value: unknown): unknown => Array.isArray(value) ? value.map(text) : value instanceof Buffer ? value.toString() : value
    t.strictSame(read(decode), { ...theirs, headers: Object.fromEntries(Object.entries(theirs.headers).map(([name, value]) => [name, text(value)])) })
  }), { numRuns: 50 })
})

t.test('a header is not taken for that of the record before, whatever its bytes look like', async t => {
  const batch = { firstOffset: '0', firstTimestamp: '0', magicByte: 2 }
  for (const name of ['Ã©', 'é', 'Ã©', 'ce_type', 'ce_typo', 'ce_type', '']) {
    const from = new kafkajs.Decoder(encode({ headers: { [name]: 'x' } }).buffer)
    from.readVarInt()
    t.same(Object.keys(decode(from, batch).headers), [name])
  }
})

t.test('a header with the name of what every object has is a header like others', async t => {
  for (const name of ['__proto__', 'constructor', 'toString']) {
    for (const value of ['x', ['x', 'y']]) {
      const headers = Object.defineProperty({}, name, { value, enumerable: true }) as Record<string, string>
      const from = new kafkajs.Decoder(encode({ headers }).buffer)
      from.readVarInt()
      t.strictSame(Object.entries(decode(from, { firstOffset: '0', firstTimestamp: '0', magicByte: 2 }).headers), [[name, value]])
    }
  }
})
