/** What is kept of the metrics of workers that have ended. */
import t from 'tap'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { counted } from './metrics.ts'

t.test('counters and histograms are added up, label by label, gauges are not kept, and the hundredth worker makes it no larger', async t => {
  const registers = [new Registry()]
  const done = new Counter({ name: 'done_total', help: 'Done', labelNames: ['outcome'], registers })
  for (const [outcome, count] of [['ok', 3], ['refused', 1]] as const) done.inc({ outcome }, count)
  new Histogram({ name: 'size', help: 'Size', buckets: [10], registers }).observe(5)
  new Gauge({ name: 'length', help: 'Length', registers }).set(7)
  const last = await registers[0]!.getMetricsAsJSON()
  let kept: Parameters<typeof counted>[0] = []
  for (let n = 0; n < 100; n++) kept = [structuredClone(counted([...kept, last]))] // as it goes from process to process
  t.equal(kept[0]!.length, 2)
  t.match(kept[0], [
    { name: 'done_total', values: [{ labels: { outcome: 'ok' }, value: 300 }, { labels: { outcome: 'refused' }, value: 100 }] },
    { name: 'size', values: [{ labels: { le: 10 }, value: 100 }, { labels: { le: '+Inf' }, value: 100 }, { metricName: 'size_sum', value: 500 }, { metricName: 'size_count', value: 100 }] }
  ])
})
