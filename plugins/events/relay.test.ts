/** One suite for both ways of reading the event log: nothing is missing on the topic, nothing is there twice, nothing of an aggregate is out of order. */
import { setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { sql } from 'kysely'
import { generationOf } from '@bifold/cqrs'
import type { Db, RelayMode } from '@bifold/postgres'
import { kafkaFor, readTopic, startApp, startProcess, until, type RunningApp, type Settings } from '@bifold/test'
import { eventLog } from '@bifold/test/event-log'
import { relaySlots } from './slot.ts'

const versionsOf = async (settings: Settings): Promise<string[]> => (await readTopic(settings)).map(({ headers }) => headers['ce_version']!)

/** What anybody can check: of each aggregate the versions 1, 2, 3 … once each, and sequences that rise in each partition. */
function faults (messages: Awaited<ReturnType<typeof readTopic>>): string[] {
  const [versions, sequences] = [new Map<string, number>(), new Map<number, string>()]
  return messages.flatMap(({ key, partition, headers }) => {
    const [version, sequence] = [Number(headers['ce_version']), headers['ce_sequence']!]
    const found = []
    if (version !== (versions.get(key) ?? 0) + 1) found.push(`${key}: ${version} after ${versions.get(key)}`)
    if (sequence <= (sequences.get(partition) ?? '')) found.push(`${partition}: ${sequence} after ${sequences.get(partition)}`)
    versions.set(key, version)
    sequences.set(partition, sequence)
    return found
  })
}

const readinessOf = async (url: string) => await (await fetch(`${url}/health/ready`)).json() as { status: string, checks: Record<string, { ok: boolean, reason?: string, unknown?: number }> }
const settle = async ({ url }: RunningApp | { url: string }) => await until(async () => (await fetch(`${url}/health/ready`)).ok, 'the relay to be ready')

async function topicHas (settings: Settings, count: number) {
  await until(async () => (await readTopic(settings)).length >= count, `${count} messages`)
  await setTimeout(300) // what is sent twice comes soon
  return await readTopic(settings)
}

/** True once the relay has written down that events up to this position are on the topic. */
const checkpointed = async (db: Db, position: number) => (await db.selectFrom('relayCheckpoints').select('position').executeTakeFirst())?.position === position

/** The slot with which the relay goes on. */
const slotOf = async (db: Db) => (await db.selectFrom('relayCheckpoints').select('slot').executeTakeFirstOrThrow()).slot!

/** Drops it, under the relay's feet if that is at work. */
async function dropSlot (db: Db) {
  const slot = await slotOf(db)
  await until(async () => {
    await sql`select pg_terminate_backend(active_pid, 1000) from pg_replication_slots where slot_name = ${slot} and active`.execute(db)
    await sql`select pg_drop_replication_slot(${slot}::name)`.execute(db)
    return true
  }, 'the slot to be dropped')
}

const scenarios: Record<string, (t: Test, log: Awaited<ReturnType<typeof eventLog>>) => Promise<void>> = {
  async 'writers at once: each event once, in the order of its aggregate' (t, { settings, insertOf, db }) {
    await insertOf(1, [1, 2]) // before there is a relay
    await startApp(t, 'relay', settings)
    const late = await db.startTransaction().execute()
    await insertOf(2, [1], late)
    await Promise.all(Array.from({ length: 4 }, async (_, writer) => {
      for (let version = 1; version <= 50; version++) await insertOf(10 + writer, [version])
    }))
    await late.commit().execute()
    await insertOf(1, [3])
    const messages = await topicHas(settings, 204)
    t.equal(messages.length, 204)
    t.same(faults(messages), [])
  },

  async 'a transaction of somebody else that stays open stalls nothing' (t, { settings, insert, db }) {
    await startApp(t, 'relay', settings)
    const foreign = await db.startTransaction().execute()
    await sql`select pg_current_xact_id()`.execute(foreign)
    await insert(1)
    t.equal((await topicHas(settings, 1)).length, 1)
    await foreign.rollback().execute()
  },

  async 'killed while it sends, over and over: each event once, in order' (t, { settings, insertOf }) {
    const writers = { ended: false }
    const writing = (async () => {
      for (let version = 1; version <= 2000; version++) await Promise.all([1, 2, 3].map(async n => await insertOf(n, [version])))
      writers.ended = true
    })()
    for (let kills = 0; !writers.ended; kills++) {
      const relay = await startProcess(t, 'relay', settings)
      await until(async () => (await fetch(`${relay.url}/health/live`)).ok)
      await setTimeout(kills * 150 % 1000)
      relay.kill('SIGKILL')
      await relay.ended
    }
    await writing
    await startApp(t, 'relay', settings)
    const messages = await topicHas(settings, 6000)
    t.equal(messages.length, 6000)
    t.same(faults(messages), [])
  },

  async 'a second relay stands by, says so, and takes over from one that hangs; that one then sends nothing more' (t, { settings, insert }) {
    const first = await startProcess(t, 'relay', settings)
    await settle(first)
    const second = await startApp(t, 'relay', settings, { ready: false })
    await until(async () => (await readinessOf(second.url)).checks['relay']!.reason === 'another relay is at work; this one stands by', 'the standby to say why it waits')
    await insert(1)
    await topicHas(settings, 1)
    const told = async () => await (await fetch(`${second.url}/metrics`)).text()
    await until(async () => (await told()).includes('bifold_relay_lag_events 0\n'), 'the standby to see no lag')
    first.kill('SIGSTOP')
    await insert(2)
    const begun = Date.now()
    t.match(await told(), /^bifold_relay_oldest_seconds (?!0$)[^]*^bifold_relay_lag_events 1$/m, 'nor does it take what is not sent for sent')
    await settle(second)
    t.ok(Date.now() - begun < 10_000, `${Date.now() - begun} ms`)
    await insert(3)
    await topicHas(settings, 3)
    first.kill('SIGCONT')
    await insert(4)
    await until(async () => (await readinessOf(first.url)).checks['relay']!.reason === 'another relay is at work; this one stands by', 'the first to stand by')
    const messages = await topicHas(settings, 4)
    t.same(messages.map(({ headers }) => headers['ce_version']), ['1', '2', '3', '4'])
    await second.app.close()
    await settle(first)
  },

  async 'a topic that is another than before gets all events' (t, { settings, db, insert }) {
    const relay = await startApp(t, 'relay', settings)
    await insert(1, 2)
    await topicHas(settings, 2)
    await until(async () => await checkpointed(db, 2), 'a checkpoint')
    await relay.app.close()
    const admin = kafkaFor(settings).admin()
    await admin.connect()
    await admin.deleteTopics({ topics: [settings.EVENTS_TOPIC] })
    await until(async () => !(await admin.listTopics()).includes(settings.EVENTS_TOPIC))
    await admin.disconnect()
    await insert(3)
    const again = await startApp(t, 'relay', settings)
    const messages = await topicHas(settings, 3)
    t.same(messages.map(({ headers }) => headers['ce_version']), ['1', '2', '3'])
    t.same(new Set(messages.map(({ headers }) => generationOf(headers['ce_sequence']!))), new Set([1]), 'a new generation: who knows the old topic is told')
    t.match((await readinessOf(again.url)).checks['history'], { reason: /is another than before/ })
  },

  async 'PostgreSQL as it was in an older backup: told, and what the topic lacks is sent' (t, { settings, db, insertOf }) {
    const relay = await startApp(t, 'relay', settings)
    for (const version of [1, 2, 3]) for (const n of [1, 2, 3]) await insertOf(n, [version])
    await topicHas(settings, 9)
    await relay.app.close()
    // The backup has not seen the third versions; later two of them are made again, as other events.
    await sql`delete from events where version = 3`.execute(db)
    await insertOf(1, [3, 4])
    await insertOf(2, [3])
    const again = await startApp(t, 'relay', settings)
    t.match((await readinessOf(again.url)).checks['history'], { reason: /older than the topic/, sent: 3, unknown: 3 })
    const messages = await topicHas(settings, 12)
    t.equal(messages.length, 12)
    t.same(messages.slice().filter(({ key }) => key.endsWith('1')).map(({ headers }) => headers['ce_version']), ['1', '2', '3', '3', '4'])
  },

  async 'the other mode goes on where this one ended' (t, { settings, db, insert }) {
    const relay = await startApp(t, 'relay', settings)
    await insert(1, 2)
    await topicHas(settings, 2)
    await relay.app.close()
    await insert(3)
    settings.RELAY_MODE = settings.RELAY_MODE === 'wal' ? 'polling' : 'wal'
    await startApp(t, 'relay', settings)
    await insert(4)
    t.same(await topicHas(settings, 4).then(faults), [])
    t.same(await versionsOf(settings), ['1', '2', '3', '4'])
    const { rows: slots } = await sql`select slot_name from pg_replication_slots where database = current_database()`.execute(db)
    t.equal(slots.length, settings.RELAY_MODE === 'wal' ? 1 : 0, 'PostgreSQL keeps WAL for a relay that reads it, and for no other')
  },

  async 'what Kafka has deleted behind the checkpoint is sent again as of another topic' (t, { settings, db, insert }) {
    const relay = await startApp(t, 'relay', settings)
    await insert(1, 2)
    await topicHas(settings, 2)
    await relay.app.close()
    await sql`update relay_checkpoints set position = 0, offsets = '[]'`.execute(db) // as it was before it was first moved
    const admin = kafkaFor(settings).admin()
    await admin.connect()
    const partitions = (await admin.fetchTopicOffsets(settings.EVENTS_TOPIC)).map(({ partition, high }) => ({ partition, offset: high }))
    await admin.deleteTopicRecords({ topic: settings.EVENTS_TOPIC, partitions })
    await admin.disconnect()
    await insert(3)
    settings.RELAY_MODE = settings.RELAY_MODE === 'wal' ? 'polling' : 'wal'
    await startApp(t, 'relay', settings)
    const messages = await topicHas(settings, 3)
    t.same(messages.map(({ headers }) => headers['ce_version']), ['1', '2', '3'])
    t.same(new Set(messages.map(({ headers }) => generationOf(headers['ce_sequence']!))), new Set([1]), 'a new generation: who has read them before is told')
  },

  async 'another topic for a while, and back: each gets all events' (t, { settings, insert }) {
    /** Relays to a topic until it has a new event; one more comes when no relay is at work. */
    const relayTo = async (topic: string, version: number) => {
      settings.EVENTS_TOPIC = topic
      const relay = await startApp(t, 'relay', settings)
      await insert(version)
      const messages = await topicHas(settings, version)
      t.same(messages.map(({ headers }) => Number(headers['ce_version'])), Array.from({ length: version }, (_, index) => index + 1))
      await relay.app.close()
      await insert(version + 1)
    }
    const [one, other] = [settings.EVENTS_TOPIC, `${settings.EVENTS_TOPIC}_other`]
    for (const [index, topic] of [one, other, one, other].entries()) await relayTo(topic, 1 + 2 * index)
  }
}

for (const mode of ['wal', 'polling'] as const satisfies readonly RelayMode[]) {
  t.test(`mode ${mode}`, async t => {
    for (const [name, scenario] of Object.entries(scenarios)) {
      await t.test(name, async t => {
        const log = await eventLog(t)
        log.settings.RELAY_MODE = mode
        await scenario(t, log)
      })
    }
  })
}

t.test('the replication slot is dropped: told, and what the topic lacks is sent', async t => {
  const { settings, db, insert } = await eventLog(t)
  const relay = await startApp(t, 'relay', settings)
  await insert(1, 2)
  await topicHas(settings, 2)
  await dropSlot(db)
  await insert(3)
  t.same((await topicHas(settings, 3)).map(({ headers }) => headers['ce_version']), ['1', '2', '3'])
  t.match((await readinessOf(relay.url)).checks['history'], { reason: /has no replication slot/, sent: 1, unknown: 0 })
  await insert(4)
  t.same((await topicHas(settings, 4)).map(({ headers }) => headers['ce_version']), ['1', '2', '3', '4'])
})

// What the checkpoint says of the slot with which the relay was stopped, and why it does not go on with the other one.
const checkpoints: Record<string, { change: (db: Db) => Promise<unknown>, reason: RegExp }> = {
  'its name': { async change () {}, reason: /has no replication slot bifold_\w+_[0-9a-f]{8}$/ },
  'nothing, as of before slots had names of their own': { change: async db => await sql`update relay_checkpoints set slot = null`.execute(db), reason: /names no replication slot/ }
}

for (const [name, { change, reason }] of Object.entries(checkpoints)) {
  t.test(`the replication slot is dropped while the relay is away, and somebody else makes one; the checkpoint says ${name}`, async t => {
    const { settings, db, insert } = await eventLog(t)
    const relay = await startApp(t, 'relay', settings)
    await insert(1, 2)
    await topicHas(settings, 2)
    await relay.app.close()
    await insert(3)
    await dropSlot(db)
    await sql`select pg_create_logical_replication_slot('bifold_' || current_database(), 'pgoutput')`.execute(db) // the fixed name that slots had
    await change(db)
    await insert(4)
    const again = await startApp(t, 'relay', settings)
    t.same((await topicHas(settings, 4)).map(({ headers }) => headers['ce_version']), ['1', '2', '3', '4'])
    t.match((await readinessOf(again.url)).checks['history'], { reason, sent: 2, unknown: 0 })
    t.same((await sql`select slot_name as name from ${relaySlots}`.execute(db)).rows, [{ name: await slotOf(db) }], 'WAL is kept for no other')
  })
}

t.test('writes of others do not hold back WAL, though there are no events', async t => {
  const { settings, db } = await eventLog(t)
  await startApp(t, 'relay', settings)
  await sql`create table others as select repeat('x', 1000) as text from generate_series(1, 20000)`.execute(db)
  const { rows: [end] } = await sql<{ lsn: string }>`select pg_current_wal_insert_lsn()::text as lsn`.execute(db)
  await until(async () => (await sql<{ passed: boolean }>`select confirmed_flush_lsn >= ${end!.lsn}::pg_lsn as passed from pg_replication_slots where slot_name = ${await slotOf(db)}`.execute(db)).rows[0]!.passed, 'the slot to pass it')
  t.pass('the slot has passed 20 MB of them')
})
