/** Gauges that tell different figures of one measuring, which a scrape does once. */
import { Gauge } from 'prom-client'
import type { FastifyInstance } from 'fastify'
import { metricsOf } from './metrics.ts'

/**
 * Makes gauges of what `measure` gives; NaN where it fails, since then nobody knows. All are collected at once, and share an answer:
 * one that another sets while it is collected would tell what was measured the time before.
 *
 * @param aggregator what is made of the figures of several workers
 */
export function makeGauges<Measured> (app: FastifyInstance, measure: () => Promise<Measured>, aggregator: 'sum' | 'max' = 'sum') {
  let asked: Promise<Measured> | undefined
  const once = async () => await (asked ??= measure().finally(() => { asked = undefined }))
  return (name: string, help: string, figure: (measured: Measured) => number) => new Gauge({
    name,
    help,
    aggregator,
    registers: [metricsOf(app)],
    async collect () { this.set(await once().then(figure, () => NaN)) }
  })
}
