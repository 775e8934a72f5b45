/** What takes the place of functions of kafkajs: the same partitions, and in use. */
import { createRequire } from 'node:module'
import t from 'tap'
import fc from 'fast-check'
import { execa } from 'execa'
import 'kafkajs' // loaded first, so that its own functions stay in place
import { byPartition, partitionOf } from './partitions.ts'
import { decode, encode } from './records.ts'

const require = createRequire(import.meta.url)

t.test('a key has the partition that kafkajs gives it', async t => {
  const murmur2 = require('kafkajs/src/producer/partitioners/default/murmur2')
  const key = fc.oneof(fc.uuid(), fc.string({ unit: 'grapheme' }), fc.string({ unit: 'binary' }))
  fc.assert(fc.property(key, fc.integer({ min: 1, max: 50 }), (key, count) => partitionOf(key, count) === (murmur2(key) & 0x7fffffff) % count), { numRuns: 1000 })
  // Kafka's own examples, in its UtilsTest.
  for (const [key, hash] of [['21', -973932308], ['foobar', -790332482], ['a-little-bit-long-string', -985981536], ['abc', 479470107]] as const) t.equal(partitionOf(key, 2 ** 31), hash & 0x7fffffff, key)
})

t.test('messages are grouped as kafkajs groups them', async t => {
  const theirs = require('kafkajs/src/producer/groupMessagesPerPartition')
  t.not(theirs, byPartition)
  const partitioner = ({ message }: { message: { partition: number } }) => message.partition
  fc.assert(fc.property(fc.array(fc.record({ partition: fc.nat({ max: 12 }), value: fc.string() })), fc.nat({ max: 2 }), (messages, count) => {
    const given = { topic: 'books', partitionMetadata: Array(count).fill({}), messages, partitioner }
    t.same(byPartition(given), theirs(given))
  }))
})

t.test('the apps use ours', async t => {
  for (const app of ['relay', 'projector']) {
    const script = `await import('@bifold/${app}/app')
      const require = (await import('node:module')).createRequire('${import.meta.filename}')
      for (const path of ['protocol/recordBatch/record/v0', 'protocol/recordBatch/record/v0/decoder', 'producer/groupMessagesPerPartition', 'network/requestQueue']) console.log(require('kafkajs/src/' + path).name)`
    const { stdout } = await execa(process.execPath, ['--input-type=module', '--eval', script], { cwd: import.meta.dirname })
    t.same(stdout.split('\n'), [encode.name, decode.name, byPartition.name, 'RestingQueue'], app)
  }
})
