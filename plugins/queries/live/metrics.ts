/** What there is to see of those who watch. */
import { Gauge, type Registry } from 'prom-client'
import type { Watches } from './index.ts'

export function watchMetrics (registry: Registry, watches: Watches): void {
  const gauge = (name: string, help: string, value: () => number) => new Gauge({ name, help, registers: [registry], collect () { this.set(value()) } })
  gauge('bifold_query_watchers', 'Clients that watch', () => watches.count)
}
