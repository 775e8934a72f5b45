/** Metrics for Prometheus, in a registry of the app's own. */
import fp from 'fastify-plugin'
import { collectDefaultMetrics, Registry } from 'prom-client'
import type { FastifyInstance } from 'fastify'

export default fp(async app => {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  app.decorate('metrics', registry)
  app.get('/metrics', { schema: { hide: true } as object }, async (_, reply) => reply.type(registry.contentType).send(await registry.metrics()))
}, { name: 'metrics' })

export const metricsOf = (app: FastifyInstance): Registry => app.getDecorator<Registry>('metrics')
