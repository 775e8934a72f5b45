/** The projector as a plugin: keeps the modules' read models in MongoDB, and tells how far it is behind. */
import fp from 'fastify-plugin'
import { Counter, Gauge } from 'prom-client'
import type { FastifyInstance } from 'fastify'
import type { AnyProjection, Module } from '@bifold/cqrs'
import { ensureTopic, kafkaAdminOf, kafkaOf } from '@bifold/kafka'
import { mongoOf } from '@bifold/mongo'
import { backgroundOf, metricsOf, within } from '@bifold/service'
import { checkpoints } from './apply.ts'
import { consume } from './consume.ts'
import type { Held } from './lane.ts'

export interface ProjectionsOptions { modules: readonly Module[], topic: string }

export default fp<ProjectionsOptions>(async (app, { modules, topic }) => {
  const db = mongoOf(app)
  const projections = modules.flatMap(module => module.projections)
  const registers = [metricsOf(app)]
  const events = new Counter({ name: 'bifold_projector_events_total', help: 'Events that were applied', registers })
  const letters = new Counter({ name: 'bifold_projector_dead_letters_total', help: 'Messages that were kept as dead letters', registers })
  const held = new Map<number, Held>()
  observeLag(app, topic, projections, held)
  backgroundOf(app)('projector', async ({ signal, ready }) => {
    held.clear()
    await createIndexes(app, projections)
    const admin = await kafkaAdminOf(app)()
    await ensureTopic(admin, topic)
    await consume({
      client: db.client,
      db,
      kafka: kafkaOf(app),
      admin,
      topic,
      projections,
      signal,
      log: app.log,
      applied (count, dead) {
        events.inc(count)
        letters.inc(dead)
      },
      holding (partition, now) {
        if (now === undefined) held.delete(partition)
        else held.set(partition, now)
      }
    }, ready)
  })
}, { name: 'projections', dependencies: ['kafka', 'mongo'] })

async function createIndexes (app: FastifyInstance, projections: readonly AnyProjection[]) {
  const db = mongoOf(app)
  for (const { collection, indexes } of projections) {
    if (indexes.length > 0) await db.collection(collection).createIndexes(indexes.map(key => ({ key: { ...key } })))
  }
  await db.collection('deadLetters').createIndex({ projection: 1, partition: 1, offset: 1 })
}

const measureMs = 2000 // longer than healthy servers take

function observeLag (app: FastifyInstance, topic: string, projections: readonly AnyProjection[], held: ReadonlyMap<number, Held>) {
  const registers = [metricsOf(app)]
  const oldest = new Gauge({ name: 'bifold_projector_oldest_seconds', help: 'Age of the oldest event that is in Kafka but not projected; 0 if there is none', aggregator: 'max', registers })
  // eslint-disable-next-line no-new
  new Gauge({
    name: 'bifold_projector_waiting_events',
    help: 'Events that are read ahead and not yet projected; bounded',
    registers,
    collect () { this.set([...held.values()].reduce((all, { messages }) => all + messages, 0)) }
  })
  let behindSince: number | undefined
  // eslint-disable-next-line no-new
  new Gauge({
    name: 'bifold_projector_lag_events',
    help: 'Events that are in Kafka but not projected, of the projection that is furthest behind',
    aggregator: 'max', // each worker measures the lag of all
    registers,
    async collect () {
      try {
        const lag = await within(measureMs, measureLag(app, topic, projections))
        behindSince = lag === 0 ? undefined : behindSince ?? Date.now()
        this.set(lag)
        // Of what is at hand the time is known; of what Kafka holds, only since when this app has seen itself behind.
        oldest.set(behindSince === undefined ? 0 : Math.max(0, Date.now() - Math.min(behindSince, ...[...held.values()].map(({ since }) => since))) / 1000)
      } catch {
        for (const gauge of [this, oldest]) gauge.set(NaN) // Kafka or MongoDB is away: nobody knows
      }
    }
  })
}

async function measureLag (app: FastifyInstance, topic: string, projections: readonly AnyProjection[]): Promise<number> {
  const ranges = await (await kafkaAdminOf(app)()).fetchTopicOffsets(topic)
  const found = await checkpoints(mongoOf(app)).find({ _id: { $in: projections.flatMap(({ collection }) => ranges.map(({ partition }) => `${collection}/${topic}/${partition}`)) } }).toArray()
  const offsets = new Map(found.map(({ _id, offset }) => [_id, offset]))
  return Math.max(0, ...projections.map(({ collection }) => ranges.reduce((lag, { partition, low, high }) =>
    lag + Math.max(0, Number(high) - (offsets.get(`${collection}/${topic}/${partition}`) ?? Number(low))), 0)))
}
