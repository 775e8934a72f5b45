/** An app for the tests of the workers: counts what it is asked, and can be told to be unwell, or not to get up. */
import { setTimeout } from 'node:timers/promises'
import { Counter, Gauge, Histogram } from 'prom-client'
import { Type } from 'typebox'
import { healthOf, loadConfig, metricsOf, serve, setting } from './index.ts'

const settings = loadConfig({ PORT: setting.port(0), SLEEPER: Type.Integer({ default: 0 }) })

await serve(async app => {
  const registers = [metricsOf(app)]
  const asked = new Counter({ name: 'asked_total', help: 'Requests', registers })
  const sizes = new Histogram({ name: 'sizes', help: 'The same requests', buckets: [1, 2], registers })
  new Gauge({ name: 'living', help: 'Added up', registers }).set(1)
  new Gauge({ name: 'lag', help: 'The same for all', aggregator: 'max', registers }).set(7)
  new Gauge({ name: 'unknown', help: 'Not known', aggregator: 'max', registers }).set(NaN)
  let well = true
  healthOf(app).add('mood', async () => {
    if (!well) throw new Error('one of us is unwell')
  })
  if (settings.BIFOLD_WORKER === settings.SLEEPER) {
    app.log.warn('sleeping')
    await setTimeout(120_000) // longer than a test may take
  }
  app.get('/pid', async () => {
    asked.inc()
    sizes.observe(2)
    return { pid: process.pid }
  })
  app.get('/slow', async () => {
    await setTimeout(300)
    return { pid: process.pid }
  })
  app.get('/hanging', async () => await new Promise(() => {}))
  app.get('/unwell', async () => { well = false })
}, settings, { name: 'fixture', host: settings.HOST, port: settings.PORT, logLevel: settings.LOG_LEVEL, workers: settings.WORKERS })
