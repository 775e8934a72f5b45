/** The command line of the rebuild: `npm run rebuild`. */
import { Command } from 'commander'
import { pino } from 'pino'
import { eventTypesOf, projectionsOf, type AnyProjection } from '@bifold/cqrs'
import { connect as connectKafka } from '@bifold/kafka'
import { modules } from '@bifold/modules'
import { connect as connectMongo } from '@bifold/mongo'
import { rebuild, type Kept } from '@bifold/projections/rebuild'
import { loadConfig, onInterrupt, reason, setting } from '@bifold/service'
import { duration, makeBar, number } from './progress.ts'

const exit = { failed: 1, interrupted: 130 } // 128 + SIGINT, as shells have it
const connectionsMax = 10 // a transaction for each lane and each partition

const all = projectionsOf(modules)

await new Command('rebuild')
  .description('Builds read models again from the events in PostgreSQL, beside the live ones, and puts them in their place in one step. Commands, reads and the projector go on. Killed at any point, it can be run again.')
  .argument('[collections...]', `of ${all.map(({ collection }) => collection).join(', ')} (default: all of them)`)
  .action(run)
  .parseAsync()

async function run (collections: string[]): Promise<void> {
  const stop = new AbortController()
  onInterrupt(() => stop.abort(), exit.interrupted)
  process.once('SIGTERM', () => stop.abort())
  try {
    const projections = collections.length === 0 ? all : collections.map(named)
    const begun = performance.now()
    const { events, kept } = await rebuildAll(projections, stop.signal)
    const ms = performance.now() - begun
    console.log(`Rebuilt ${projections.map(({ collection }) => collection).join(', ')} from ${number(events.all)} events in ${duration(ms)}, ${number(events.perSecond)} events/s while reading them.`)
    for (const { name, until } of kept) console.log(`What was live before is kept as ${name} until ${until.toISOString()}.`)
    if (kept.length === 0) console.log('Nothing is kept of what was live before (docs/decisions/0014-rebuild.md tells when it is).')
  } catch (error) {
    console.error(stop.signal.aborted ? 'Interrupted: the live read models are as they were.' : reason(error))
    process.exitCode = stop.signal.aborted ? exit.interrupted : exit.failed
  }
}

function named (name: string): AnyProjection {
  const projection = all.find(({ collection }) => collection === name)
  if (projection === undefined) throw new Error(`There is no read model ${name}; there are ${all.map(({ collection }) => collection).join(', ')}`)
  return projection
}

async function rebuildAll (projections: readonly AnyProjection[], signal: AbortSignal): Promise<{ events: { all: number, perSecond: number }, kept: Kept[] }> {
  const settings = loadConfig({
    POSTGRES_URL: setting.postgres('The event log'),
    KAFKA_BROKERS: setting.brokers(),
    MONGO_URL: setting.mongo('The read side'),
    EVENTS_TOPIC: setting.topic()
  })
  const log = pino({ level: 'warn' }, pino.destination(2))
  const kafka = connectKafka(settings.KAFKA_BROKERS, log)
  const admin = kafka.admin({ retry: { retries: 0 } })
  const mongo = connectMongo(settings.MONGO_URL, connectionsMax)
  const progress = makeProgress()
  try {
    await admin.connect()
    const kept = await rebuild({ url: settings.POSTGRES_URL, db: mongo.db(), admin, kafka, topic: settings.EVENTS_TOPIC, declared: eventTypesOf(modules), signal, log, ...progress }, projections)
    return { events: progress.figures(), kept }
  } finally {
    progress.stop()
    await Promise.allSettled([admin.disconnect(), mongo.close()])
  }
}

/** A bar while events are read, then a line for what is to be caught up with. */
function makeProgress () {
  const bar = makeBar('{percentage}% | {events} events | {rate} events/s | {left} left')
  let [started, begun, read, perSecond] = [false, 0, 0, 0]
  return {
    building (done: number, all: number) {
      if (!started) bar.start(all, 0, { events: '0', rate: '-', left: '-' })
      if (!started) begun = performance.now()
      started = true
      const ms = performance.now() - begun
      perSecond = done / ms * 1000
      read = all
      bar.update(done, { events: number(done), rate: number(perSecond), left: duration(ms * (all - done) / done) })
    },
    behind (events: number) {
      if (started) bar.stop()
      started = false
      if (events > 0) console.log(`Catching up with the topic: ${number(events)} events behind`)
    },
    figures: () => ({ all: read, perSecond }),
    stop () { if (started) bar.stop() }
  }
}
