/**
 * Puts functions of ours in the place of kafkajs's: records in and out, and the partitions of messages (docs/decisions/0009-records.md).
 *
 * They are of kafkajs 2.2.4, which is pinned and whose development has ended. To be imported before kafkajs; where kafkajs was loaded
 * before, it stays as it is, only slower.
 */
import { createRequire } from 'node:module'
import { byPartition } from './partitions.ts'
import { decode, encode } from './records.ts'

const ours = {
  'kafkajs/src/protocol/recordBatch/record/v0': encode,
  'kafkajs/src/protocol/recordBatch/record/v0/decoder': decode,
  'kafkajs/src/producer/groupMessagesPerPartition': byPartition
}

const require = createRequire(import.meta.url)
// An import that is linked, but not run yet, is in the cache too.
if (require.cache[require.resolve('kafkajs')]?.loaded !== true) {
  for (const [path, replacement] of Object.entries(ours)) {
    require(path)
    require.cache[require.resolve(path)]!.exports = replacement
  }
}
