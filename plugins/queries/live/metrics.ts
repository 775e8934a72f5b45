/** What there is to see of those who watch. */
import { Counter, Gauge, type Registry } from 'prom-client'
import type { Watches } from './index.ts'

export function watchMetrics (registry: Registry, watches: Watches): void {
  const add = (name: string, help: string, aggregator: 'sum' | 'max', value: () => number) => new Gauge({ name, help, aggregator, registers: [registry], collect () { this.set(value()) } })
  add('bifold_query_watchers', 'Clients that watch', 'sum', () => watches.count)
  // Those that a worker counted stay when it dies, which only a counter's do.
  registry.registerMetric(new Counter({
    name: 'bifold_query_watchers_too_slow_total',
    help: 'Watchers that were ended since they did not take what they were told',
    registers: [],
    collect () {
      this.reset()
      this.inc(watches.tooSlow)
    }
  }))
  add('bifold_query_watch_lag_seconds', 'How old the last change was when it was told to those who watch', 'max', () => watches.lagSeconds)
}
