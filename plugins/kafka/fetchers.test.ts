/** A consumer that is stopped while the brokers change ends; as kafkajs has it, it asks on for ever. */
import { createRequire } from 'node:module'
import t from 'tap'
import 'kafkajs' // loaded first, so that its own functions stay in place
import { stoppingForGood } from './fetchers.ts'

const theirs = createRequire(import.meta.url)('kafkajs/src/consumer/fetchManager')
const fetchesMax = 1000 // in the test, so that it ends
const logger = { namespace: () => logger, debug () {}, info () {} }

/** Stops it when it has heard of another broker, and is about to begin with that. */
async function stopped (make: typeof theirs) {
  let [asked, fetches, running] = [0, 0, true]
  const manager = make({
    logger,
    handler: async () => {},
    getNodeIds () {
      asked++
      if (asked === 3) { // the first fetchers are made, one has found that there is another, and the next are made
        running = false
        void manager.stop()
      }
      return asked === 1 ? [1] : [1, 2]
    },
    async fetch () { // as the runner of kafkajs does
      if (running) throw new Error('it runs')
      if (++fetches === fetchesMax) throw new Error('it asks for ever')
      return []
    }
  })
  await manager.start().catch((error: Error) => { if (error.message === 'it runs') throw error })
  return fetches
}

t.test('nothing is asked after that', async t => {
  t.equal(await stopped(stoppingForGood(theirs)), 0)
  t.ok(await stopped(theirs) >= fetchesMax, 'and of kafkajs itself it is: if this fails, what is done about it has become needless')
})
