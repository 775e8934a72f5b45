/**
 * Puts functions of ours in the place of kafkajs's: records in and out, and the partitions of messages (docs/decisions/0009-records.md);
 * puts the fence around its producers (fence.ts); has its consumers stop when they are told to (fetchers.ts), and its connections rest when nothing waits (requests.ts); asks for the ends of partitions as they are (ends.ts), and for the ids of topics (topic-id.ts); leaves a group for who could not (leave.ts).
 *
 * They are of kafkajs 2.2.4, which is pinned and whose development has ended. To be imported before kafkajs; where kafkajs was loaded
 * before, it stays as it is: slower, and without the fence.
 */
import { createRequire } from 'node:module'
import { askingForTheEnd } from './ends.ts'
import { stoppingForGood } from './fetchers.ts'
import { fencing, sendingOnce, showingMarkers } from './fence.ts'
import { leaving } from './leave.ts'
import { byPartition } from './partitions.ts'
import { decode, encode } from './records.ts'
import { resting } from './requests.ts'
import { knowingIds } from './topic-id.ts'

/** From kafkajs's own to ours. */
const ours: Readonly<Record<string, (theirs: never) => unknown>> = {
  'kafkajs/src/network/requestQueue': resting as never,
  'kafkajs/src/protocol/recordBatch/record/v0': () => encode,
  'kafkajs/src/protocol/recordBatch/record/v0/decoder': () => decode,
  'kafkajs/src/producer/groupMessagesPerPartition': () => byPartition,
  'kafkajs/src/producer/eosManager': fencing,
  'kafkajs/src/producer/sendMessages': sendingOnce,
  'kafkajs/src/consumer/batch': showingMarkers,
  'kafkajs/src/consumer/fetchManager': stoppingForGood,
  'kafkajs/src/protocol/requests/listOffsets/v2/request': askingForTheEnd, // of version 3, too
  'kafkajs/src/admin': (theirs: never) => leaving(knowingIds(theirs) as never) // last: it loads what is replaced above
}

const require = createRequire(import.meta.url)
// An import that is linked, but not run yet, is in the cache too.
if (require.cache[require.resolve('kafkajs')]?.loaded !== true) {
  for (const [path, replace] of Object.entries(ours)) {
    const theirs = require(path) as never
    require.cache[require.resolve(path)]!.exports = replace(theirs)
  }
}
