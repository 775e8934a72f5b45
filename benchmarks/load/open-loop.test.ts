/** The open loop: arrivals do not wait for answers, and a stall is seen by all who were due meanwhile. */
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { openLoop } from './open-loop.ts'

t.test('a server that stands still for a while costs everyone who was due, not only who was there', async t => {
  const stallMs = 300
  const free = setTimeout(stallMs)
  const latencies: number[] = []
  await openLoop({
    perSecond: 500,
    durationMs: 600,
    async fire (dueMs) {
      await free // as a server that answers nobody at first
      latencies.push(performance.now() - dueMs)
    }
  })
  t.ok(latencies.length > 150, `${latencies.length} calls came, answers or not`)
  const late = latencies.filter(latency => latency > stallMs / 3).length
  t.ok(late > latencies.length / 5, `${late} of ${latencies.length} have waited: a closed loop would have seen one`)
})

t.test('an error of a call is not swallowed', async t => {
  await t.rejects(openLoop({ perSecond: 100, durationMs: 50, fire: async () => { throw new Error('refused') } }), { message: 'refused' })
})
