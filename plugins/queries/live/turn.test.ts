/** Turns: so many at a time, in order, and none for who has left. */
import t from 'tap'
import { setImmediate } from 'node:timers/promises'
import { makeTurn } from './turn.ts'

const staying = () => new AbortController().signal

t.test('who leaves while it waits is gone at once, and the next has its turn', async t => {
  const turn = makeTurn(1)
  const first = await turn(staying())
  const leaving = new AbortController()
  const order: string[] = []
  const second = turn(leaving.signal)
  const third = turn(staying()).then(() => order.push('third'))
  leaving.abort(new Error('gone'))
  await t.rejects(second, { message: 'gone' })
  await setImmediate()
  t.same(order, [])
  first.end()
  await third
  await t.rejects(turn(leaving.signal), { message: 'gone' })
})

t.test('who has ended its turn twice has given it once', async t => {
  const turn = makeTurn(1)
  const first = await turn(staying())
  first.end()
  first.end()
  const second = await turn(staying())
  let begun = false
  const third = turn(staying()).then(() => { begun = true })
  await setImmediate()
  t.notOk(begun)
  second.end()
  await third
})
