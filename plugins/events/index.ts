/** The relay as a plugin: streams the event log to Kafka in the background, and tells how far it is behind. */
import fp from 'fastify-plugin'
import { Counter, Gauge } from 'prom-client'
import { sql } from 'kysely'
import type { FastifyInstance } from 'fastify'
import { ensureTopic, kafkaAdminOf, kafkaGuardedOf } from '@bifold/kafka'
import { dbOf, type Db, type RelayMode } from '@bifold/postgres'
import { backgroundOf, healthOf, makeGauges, metricsOf, within } from '@bifold/service'
import { relay, type Broken } from './relay.ts'
import { relaySlots } from './slot.ts'

export interface EventsOptions { url: string, mode: RelayMode, topic: string, lagMaxSeconds: number }

export default fp<EventsOptions>(async (app, { url, mode, topic, lagMaxSeconds }) => {
  const db = dbOf(app)
  let sentPosition = 0
  const relayed = new Counter({ name: 'bifold_relay_events_total', help: 'Events that Kafka confirmed', registers: [metricsOf(app)] })
  const waiting = new Gauge({ name: 'bifold_relay_waiting_events', help: 'Events that are read from the WAL and not yet in Kafka; bounded', registers: [metricsOf(app)] })
  const measure = async () => await within(measureMs, measureLag(db, topic, sentPosition))
  observeLag(app, measure)
  healthOf(app).add('lag', async () => {
    const { seconds } = await measure()
    if (seconds > lagMaxSeconds) throw new Error(`the oldest event has waited for ${Math.round(seconds)} s, longer than LAG_MAX_SECONDS ${lagMaxSeconds}`)
  })
  const catchUps = new Counter({ name: 'bifold_relay_catch_ups_total', help: 'Times that the stream could not go on where the topic ended, and what was missing was sent from the table', registers: [metricsOf(app)] })
  let lastBreak: Broken | undefined
  healthOf(app).add('history', async () => lastBreak && { ...lastBreak }) // told, and not unready: what was missing is sent
  backgroundOf(app)('relay', async ({ signal, ready, standby }) => {
    const admin = await kafkaAdminOf(app)()
    await ensureTopic(admin, topic)
    await relay({
      url,
      db,
      mode,
      topic,
      kafka: kafkaGuardedOf(app),
      admin,
      signal,
      log: app.log,
      standby,
      waiting: events => waiting.set(events),
      sent (events, position) {
        relayed.inc(events)
        sentPosition = Math.max(sentPosition, position)
        app.log.debug({ events, position }, 'events relayed')
      },
      caughtUp (found) {
        catchUps.inc()
        lastBreak = found
        app.log[found.unknown > 0 ? 'error' : 'warn'](found, 'caught up from the table of events')
      }
    }, ready)
  })
}, { name: 'events', dependencies: ['postgres', 'kafka'] })

const measureMs = 2000 // longer than a healthy server takes
const countMax = 1_000_000 // a lag beyond is as bad, and would make counting a burden

function observeLag (app: FastifyInstance, measure: () => ReturnType<typeof measureLag>) {
  const gauge = makeGauges(app, measure)
  gauge('bifold_relay_oldest_seconds', 'Age of the oldest event that is committed but not in Kafka; 0 if there is none', ({ seconds }) => seconds)
  gauge('bifold_relay_slot_lag_bytes', 'WAL that PostgreSQL keeps for the relay', ({ bytes }) => bytes)
  gauge('bifold_relay_lag_events', 'Events that are committed but not in Kafka (counted up to a million)', ({ events }) => events)
}

// Positions are given before the commit, so one that is committed late may be passed over here for milliseconds: the relay itself goes by the WAL.
// A standby has sent nothing: it goes by the checkpoint of the one at work, which is some seconds old.
async function measureLag (db: Db, topic: string, sentPosition: number) {
  const { rows: [lag] } = await sql<{ events: number, seconds: number }>`
    select count(*) as events, coalesce(extract(epoch from now() - min(time)), 0)::float8 as seconds
    from (select time from events where position > greatest(${sentPosition}, (select position from relay_checkpoints where topic = ${topic})) limit ${countMax}) as behind`.execute(db)
  const { rows: [kept] } = await sql<{ bytes: number }>`
    select coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)), 0)::float8 as bytes from ${relaySlots}`.execute(db)
  return { events: lag!.events, seconds: Math.max(0, lag!.seconds), bytes: kept!.bytes }
}
