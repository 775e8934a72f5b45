/** The projector as a plugin: keeps the modules' read models in MongoDB, and tells how far it is behind. */
import fp from 'fastify-plugin'
import { Counter, Gauge } from 'prom-client'
import type { Db } from 'mongodb'
import type { FastifyInstance } from 'fastify'
import { eventTypesOf, projectionsOf, type AnyProjection, type Module } from '@bifold/cqrs'
import { ensureTopic, kafkaAdminOf, kafkaOf, makeBehind, type Held } from '@bifold/kafka'
import { mongoOf } from '@bifold/mongo'
import { backgroundOf, healthOf, makeGauges, metricsOf, within } from '@bifold/service'
import { checkpointId, checkpoints, versionOf } from './apply.ts'
import type { OrderBreak } from './audit.ts'
import { isClaimed } from './claim.ts'
import { consume } from './consume.ts'
import { createIndexes } from './build.ts'
import { fillEmpty } from './fill.ts'
import { graceMs as defaultGraceMs, isThere, removeOld } from './grace.ts'
import { createLetterIndexes, letters as lettersOf } from './letters.ts'

/** `url` is PostgreSQL's: its event log fills read models that have nothing yet. `graceMs` is for how long one is kept that was rebuilt; `readModels` names those to keep, with commas between, if not all. */
export interface ProjectionsOptions { modules: readonly Module[], url: string, topic: string, lagMaxSeconds: number, readModels?: string, graceMs?: number }

export default fp<ProjectionsOptions>(async (app, { modules, url, topic, lagMaxSeconds, readModels = '', graceMs = defaultGraceMs }) => {
  const db = mongoOf(app)
  const projections = kept(projectionsOf(modules), readModels)
  const declared = eventTypesOf(modules)
  const registers = [metricsOf(app)]
  const events = new Counter({ name: 'bifold_projector_events_total', help: 'Events that were applied to a read model', labelNames: ['read_model'], registers })
  const letters = new Counter({ name: 'bifold_projector_dead_letters_total', help: 'Messages that were kept as dead letters', registers })
  const breaks = new Counter({ name: 'bifold_projector_order_breaks_total', help: 'Events whose version did not follow the one before', registers })
  observeLetters(app)
  let lastBreak: OrderBreak | undefined
  healthOf(app).add('order', async () => lastBreak && { lastBreak }) // told, and not unready: that would mend nothing
  let built: { done: number, all: number } | undefined
  healthOf(app).add('read models', async () => {
    if (built !== undefined) throw new Error(`being built from PostgreSQL: ${built.done} of ${built.all} events`)
    const [other] = others
    if (other === undefined) return
    const [{ collection, version = 1 }, found] = other
    throw new Error(`${collection} was built by version ${found} of its projection, and this projector has version ${version}: ${found < version ? 'run "npm run rebuild"' : 'a newer one is to take its place'}`)
  })
  const others = new Map<AnyProjection, number>()
  const held = new Map<number, Held>()
  observeLag(app, { topic, projections, held, lagMaxSeconds })
  backgroundOf(app)('projector', async ({ signal, ready }) => {
    held.clear()
    others.clear()
    await createLetterIndexes(db)
    const admin = await kafkaAdminOf(app)()
    await ensureTopic(admin, topic)
    await fillEmpty({ url, db, admin, topic, declared, signal, log: app.log, building: (done, all) => { built = { done, all } } }, projections).finally(() => { built = undefined })
    for (const projection of projections) await createIndexes(db, projection)
    const changed = new AbortController()
    const looking = setInterval(() => {
      anyChanged(db, projections, others).then(found => { if (found) changed.abort() }, () => {})
      removeOld(db, projections, graceMs).catch(() => {}) // the next look tries again
    }, lookMs)
    await consume({
      db,
      kafka: kafkaOf(app),
      admin,
      topic,
      groupId: groupOf(db, topic, projections, readModels),
      projections,
      declared,
      signal: AbortSignal.any([signal, changed.signal]),
      log: app.log,
      applied ({ collection }, count, dead) {
        if (count > 0) events.inc({ read_model: collection }, count)
        letters.inc(dead)
      },
      disordered (found) {
        breaks.inc()
        lastBreak = found
      },
      leftOut (projection, version) { others.set(projection, version) },
      holding (partition, now) {
        if (now === undefined) held.delete(partition)
        else held.set(partition, now)
      }
    }, ready).finally(() => clearInterval(looking))
  })
}, { name: 'projections', dependencies: ['kafka', 'mongo'] })

const lookMs = 2000 // a read model that another version had built is taken on soon after its rebuild, and one that is gone is built

/** @throws if there is no read model of a name */
function kept (projections: readonly AnyProjection[], readModels: string): readonly AnyProjection[] {
  if (readModels === '') return projections
  return readModels.split(',').map(name => {
    const found = projections.find(({ collection }) => collection === name)
    if (found === undefined) throw new Error(`READ_MODELS: no module has the read model '${name}'; there are ${projections.map(({ collection }) => collection).join(', ')}`)
    return found
  })
}

/** Projectors of other versions or of other read models share no partitions: each kind has all of them, and works when its read model is there. */
const groupOf = (db: Db, topic: string, projections: readonly AnyProjection[], readModels: string) =>
  [`bifold-projector.${db.databaseName}.${topic}`, ...readModels === '' ? [] : readModels.split(',').sort(), ...projections.filter(projection => versionOf(projection) > 1).map(projection => `${projection.collection}-${versionOf(projection)}`)].join('.')

/** One that was left out has become ours, or one of ours is gone, as after the loss of MongoDB. */
async function anyChanged (db: Db, projections: readonly AnyProjection[], others: ReadonlyMap<AnyProjection, number>): Promise<boolean> {
  for (const projection of projections) {
    if (await isClaimed(db, projection)) continue // without checkpoints for a moment only
    const version = others.has(projection) ? { version: versionOf(projection) } : {}
    const found = await checkpoints(db).findOne({ projection: projection.collection, ...version })
    if (others.has(projection) ? found !== null : found === null || !await isThere(db, projection.collection)) return true
  }
  return false
}

/** How many aggregates are parked, and how many letters there are: told, and not unready, since a restart would mend nothing. */
function observeLetters (app: FastifyInstance) {
  const count = async () => {
    const [parkedAggregates, all] = await Promise.all([lettersOf(mongoOf(app)).countDocuments({ waits: false, aggregateId: { $ne: null } }), lettersOf(mongoOf(app)).estimatedDocumentCount()])
    return { parkedAggregates, letters: all }
  }
  healthOf(app).add('dead letters', async () => {
    const found = await count()
    return found.letters === 0 ? undefined : found
  })
  makeGauges(app, async () => await within(measureMs, count()), 'max')( // each worker counts all
    'bifold_projector_parked_aggregates', 'Aggregates whose events wait behind a dead letter', ({ parkedAggregates }) => parkedAggregates)
}

const measureMs = 2000 // longer than healthy servers take

interface Observed { topic: string, projections: readonly AnyProjection[], held: ReadonlyMap<number, Held>, lagMaxSeconds: number }

function observeLag (app: FastifyInstance, { topic, projections, held, lagMaxSeconds }: Observed) {
  const behind = makeBehind()
  const measure = async () => {
    const { ranges, readers } = await within(measureMs, progress(app, topic, projections))
    const events = behind.look(ranges, readers)
    // Of what is at hand the time is known; of what Kafka holds, only since when this app has seen it there.
    const oldest = behind.since === Infinity ? Infinity : Math.min(behind.since, ...[...held.values()].map(({ since }) => since))
    return { events, seconds: Math.max(0, Date.now() - oldest) / 1000 }
  }
  healthOf(app).add('lag', async () => {
    const { seconds } = await measure()
    if (seconds > lagMaxSeconds) throw new Error(`the oldest event has waited for ${Math.round(seconds)} s, longer than LAG_MAX_SECONDS ${lagMaxSeconds}`)
  })
  const registers = [metricsOf(app)]
  // eslint-disable-next-line no-new
  new Gauge({
    name: 'bifold_projector_waiting_events',
    help: 'Events that are read ahead and not yet projected; bounded',
    registers,
    collect () { this.set([...held.values()].reduce((all, { messages }) => all + messages, 0)) }
  })
  const gauge = makeGauges(app, measure, 'max') // each worker measures the lag of all
  gauge('bifold_projector_oldest_seconds', 'Age of the oldest event that is in Kafka but not projected; 0 if there is none', ({ seconds }) => seconds)
  gauge('bifold_projector_lag_events', 'Events that are in Kafka but not projected, of the projection that is furthest behind', ({ events }) => events)
}

/** How far the topic goes, and where each projection stands in it. */
async function progress (app: FastifyInstance, topic: string, projections: readonly AnyProjection[]) {
  const ranges = await (await kafkaAdminOf(app)()).fetchTopicOffsets(topic)
  const found = await checkpoints(mongoOf(app)).find({ _id: { $in: projections.flatMap(projection => ranges.map(({ partition }) => checkpointId(projection, topic, partition))) } }).toArray()
  const offsets = new Map(found.map(({ _id, offset }) => [_id, offset]))
  return { ranges, readers: projections.map(projection => ({ partition, low }: { partition: number, low: string }) => offsets.get(checkpointId(projection, topic, partition)) ?? Number(low)) }
}
