/** What the report is made of: medians, ratios, goals. */
import t from 'tap'
import { compare, comparison, isMet, spreadOf, type Bench, type Runner } from './scenario.ts'

t.test('median and spread', async t => {
  t.same(spreadOf([3, 1, 2]), { median: 2, min: 1, max: 3 })
  t.same(spreadOf([4, 1, 2, 3]), { median: 2.5, min: 1, max: 4 })
})

t.test('a goal is reached from its own side', async t => {
  const goal = { what: 'x', asked: 10, unit: '' }
  t.same([9, 10, 11].map(measured => isMet({ ...goal, sense: 'at least', measured })), [false, true, true])
  t.same([9, 10, 11].map(measured => isMet({ ...goal, sense: 'at most', measured })), [true, true, false])
})

t.test('contenders take turns, are warmed up first, and are compared round by round', async t => {
  const order: string[] = []
  const runner = (name: string, rates: number[]): Runner => ({
    name,
    async run (durationMs) {
      order.push(`${name} ${durationMs}`)
      return { perSecond: rates.shift()!, errors: 1, latencyMs: { p50: 1, p99: 2, p999: 3 } }
    },
    async settle () { order.push(`${name} settles`) }
  })
  const bench = { plan: { warmupMs: 1, roundMs: 2, rounds: 3 }, say () {} } as unknown as Bench
  const measured = await compare([runner('a', [0, 100, 300, 200]), runner('b', [0, 50, 60, 40])], bench)
  t.same(order.filter(entry => !entry.endsWith('settles')), ['a 1', 'b 1', 'a 2', 'b 2', 'b 2', 'a 2', 'a 2', 'b 2'])
  t.equal(order[1], 'a settles', 'what one has left behind is done before the next begins')
  t.same(comparison(measured, 'calls').rows, [['a', 200, 100, 300, 1, 1, 2, 3], ['b', 50, 40, 60, 0.2, 1, 2, 3]])
})
