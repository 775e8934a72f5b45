/** The queue of a connection's requests: at rest when nothing waits, and looking when something does. */
import { createRequire } from 'node:module'
import t from 'tap'
import 'kafkajs' // loaded first, so that its own classes stay in place
import { resting } from './requests.ts'

const theirs = createRequire(import.meta.url)('kafkajs/src/network/requestQueue')
const logger = { namespace: () => logger, debug () {}, warn () {} }

/** A queue whose first request is answered; one is in flight at a time. */
function answered (t: Tap, RequestQueue: typeof theirs) {
  const sent: number[] = []
  const queue = new RequestQueue({ maxInFlightRequests: 1, requestTimeout: 1000, enforceRequestTimeout: false, clientId: 'test', broker: 'none', logger, isConnected: () => true })
  t.teardown(() => queue.destroy())
  const ask = (correlationId: number) => queue.push({ entry: { correlationId, resolve () {}, reject () {} }, expectResponse: true, sendRequest: () => sent.push(correlationId) })
  const answer = (correlationId: number) => queue.fulfillRequest({ correlationId, payload: Buffer.alloc(0), size: 0 })
  ask(1)
  answer(1)
  return { sent, ask, answer, looks: () => queue.throttleCheckTimeoutId !== null }
}

type Tap = Pick<typeof t, 'teardown'>

t.test('it rests when nothing waits', async t => {
  t.notOk(answered(t, resting(theirs)).looks())
  t.ok(answered(t, theirs).looks(), 'kafkajs itself looks on: if this fails, what is done about it has become needless')
})

t.test('what has to wait is sent, and until then it looks', async t => {
  const { sent, ask, answer, looks } = answered(t, resting(theirs))
  ask(2)
  ask(3)
  t.same([sent, looks()], [[1, 2], true])
  answer(2)
  t.same(sent, [1, 2, 3])
})
