/** Metrics for Prometheus, in a registry of the app's own; of several workers together. */
import fp from 'fastify-plugin'
import { AggregatorRegistry, collectDefaultMetrics, Registry, type MetricObjectWithValues, type MetricValue } from 'prom-client'
import type { FastifyInstance } from 'fastify'
import { Unavailable } from '@bifold/cqrs'
import type { Peers } from './workers.ts'

export default fp<{ peers: Peers | undefined }>(async (app, { peers }) => {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  app.decorate('metrics', registry)
  peers?.answer('metrics', async () => await registry.getMetricsAsJSON())
  // Counters of the workers are added up, also those of workers that have ended; each gauge says with its `aggregator` what is to be done with several.
  const all = async () => {
    if (peers === undefined) return registry
    const { answers, ended, silent } = await peers.ask<Metrics>('metrics')
    if (silent > 0) throw new Unavailable('A worker') // a counter that fell and rose again would be taken for that many events
    return AggregatorRegistry.aggregate([...answers, ...ended])
  }
  app.get('/metrics', { schema: { hide: true } as object }, async (_, reply) => reply.type(registry.contentType).send(await (await all()).metrics()))
}, { name: 'metrics' })

type Metrics = MetricObjectWithValues<MetricValue<string>>[]

/** What workers that have ended have counted, as the metrics of one. Gauges are of those that live. */
export function counted (lasts: readonly Metrics[]): Metrics {
  const counters = lasts.map(metrics => metrics.filter(({ type }) => String(type) !== 'gauge')) // a name, though it is declared as a number
  return AggregatorRegistry.aggregate(counters).getMetricsAsArray().map(metric => ({ ...metric as Metrics[number], get: undefined })) // a function goes to no other process
}

export const metricsOf = (app: FastifyInstance): Registry => app.getDecorator<Registry>('metrics')
