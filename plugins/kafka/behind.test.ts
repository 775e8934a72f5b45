/** How old it is what a reader has not done, seen from outside. */
import t from 'tap'
import { makeBehind } from './behind.ts'

t.test('what waits has waited since it was seen; once that is done, since something else was', async t => {
  let now = 1000
  t.intercept(Date, 'now', { value: () => now })
  const behind = makeBehind()
  const look = (at: number, end: number, done: number) => {
    now = at
    behind.look([{ partition: 0, low: '0', high: String(end) }], [() => done])
    return behind.since
  }
  t.equal(look(1000, 0, 0), Infinity)
  t.equal(look(2000, 10, 4), 2000)
  t.equal(look(3000, 30, 9), 2000, 'one of those is left')
  t.equal(look(4000, 50, 10), 4000, 'they are done, and it is not at the end')
  t.equal(look(5000, 70, 49), 4000)
  t.equal(look(6000, 90, 80), 6000, 'never seen at the end, and never old')
  t.equal(look(7000, 90, 90), Infinity)
})
