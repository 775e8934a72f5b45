/** Old events on the whole path: what an older release wrote lies in the table and on the topic as it was, and arrives in today's shape, live, in a rebuild and out of the dead letters. */
import t, { type Test } from 'tap'
import { MongoClient } from 'mongodb'
import { sql } from 'kysely'
import commands from '@bifold/commands'
import { eventTypesOf, projectionsOf } from '@bifold/cqrs'
import relay from '@bifold/events'
import kafka from '@bifold/kafka'
import mongo from '@bifold/mongo'
import openapi from '@bifold/openapi'
import postgres, { connect, type RelayMode } from '@bifold/postgres'
import projections from '@bifold/projections'
import { retry } from '@bifold/projections/dead-letters'
import { rebuild } from '@bifold/projections/rebuild'
import { build, type App } from '@bifold/service'
import { notes, written, type Note, type Release } from './notes.ts'
import { kafkaFor, readTopic, stores, topicFor, until, type Settings } from './pipeline.ts'

const ada = { author: 'Ada', text: 'on engines' }
const silent = { info () {}, warn () {}, error () {}, debug () {} } as never

/** An app of a release. */
async function start (t: Test, app: App<Settings>, settings: Settings) {
  const running = await build(app, settings, { name: 'release', logLevel: 'silent' })
  t.teardown(async () => await running.close())
  await running.ready()
  await until(async () => {
    const { statusCode, body } = await running.inject('/health/ready')
    if (statusCode !== 200) throw new Error(body)
    return true
  }, 'the app to be ready')
  return running
}

const gatewayOf = async (t: Test, settings: Settings, release: Release) => await start(t, async app => {
  await app.register(openapi, { title: 'Notes', description: '' })
  await app.register(postgres, { url: settings.POSTGRES_URL, modules: [notes(release)] })
  await app.register(commands, { modules: [notes(release)] })
}, settings)

const relayOf = async (t: Test, settings: Settings) => await start(t, async app => {
  await app.register(postgres, { url: settings.POSTGRES_URL, modules: [notes(3)] })
  await app.register(kafka, { brokers: settings.KAFKA_BROKERS })
  await app.register(relay, { url: settings.POSTGRES_URL, mode: settings.RELAY_MODE, topic: settings.EVENTS_TOPIC, lagMaxSeconds: 300 })
}, settings)

const projectorOf = async (t: Test, settings: Settings, release: Release) => await start(t, async app => {
  await app.register(kafka, { brokers: settings.KAFKA_BROKERS })
  await app.register(mongo, { url: settings.MONGO_URL })
  await app.register(projections, { modules: [notes(release)], url: settings.POSTGRES_URL, topic: settings.EVENTS_TOPIC, lagMaxSeconds: 300 })
}, settings)

/** A system of the notes, whose gateway and projector are of any release. */
async function system (t: Test, mode: RelayMode = 'wal') {
  const settings: Settings = { ...await stores(t), RELAY_MODE: mode }
  const db = connect(settings.POSTGRES_URL, 1)
  const client = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => {
    await db.destroy()
    await client.close()
  })
  const send = async (release: Release, method: 'POST' | 'PATCH' | 'DELETE', url: string, payload?: object) => {
    const gateway = await gatewayOf(t, settings, release)
    const answer = await gateway.inject({ method, url, ...payload && { payload } })
    await gateway.close()
    return answer.json().id as string
  }
  const shown = async () => (await client.db().collection('notes').find().sort({ _id: 1 }).toArray()).map(({ _id, _message, ...rest }) => rest)
  return { settings, db, mongo: client.db(), send, shown }
}

const today = (version: number, note: Pick<Note, 'author' | 'text'>) => ({ version, ...written(3, note) })

for (const mode of ['wal', 'polling'] as const) {
  t.test(`${mode}: what older releases wrote is shown in today's shape, and so it is after a rebuild`, async t => {
    const { settings, db, mongo, send, shown } = await system(t, mode)
    const first = await send(1, 'POST', '/notes', ada)
    const second = await send(2, 'POST', '/notes', { ...ada, text: 'on looms' })
    const struck = await send(1, 'POST', '/notes', ada)
    await send(1, 'DELETE', `/notes/${struck}`)
    await relayOf(t, settings)
    const projector = await projectorOf(t, settings, 3)
    await send(3, 'PATCH', `/notes/${first}`, { ...ada, text: 'on engines again' })
    await send(3, 'POST', '/notes', { ...ada, text: 'on numbers' })
    const expected = [today(2, { ...ada, text: 'on engines again' }), today(1, { ...ada, text: 'on looms' }), today(1, { ...ada, text: 'on numbers' })]
    await until(async () => (await shown()).length === 3 && (await shown())[0]!['version'] === 2, 'the notes')
    t.same(await shown(), expected)

    const { rows } = await sql<{ versions: number[] }>`select array_agg(schema_version order by position) as versions from events`.execute(db)
    t.same(rows[0]!.versions, [1, 2, 1, 1, 3, 3], 'the table has each as it was written')
    const topic = (await readTopic(settings)).map(({ key, value: { data: { id, version, ...record } }, headers }) => ({ key, version, schema: headers['ce_schemaversion'], record }))
    t.match(topic.filter(({ key }) => key === first), [{ version: 1, schema: undefined, record: ada }, { version: 2, schema: '3', record: written(3, { ...ada, text: 'on engines again' }) }], 'and so has the topic')
    t.match(topic.filter(({ key }) => key === second), [{ schema: '2', record: written(2, { ...ada, text: 'on looms' }) }])

    await mongo.collection('notes').updateMany({}, { $set: { words: -1 } })
    const kafka = kafkaFor(settings)
    await rebuild({ url: settings.POSTGRES_URL, db: mongo, admin: await topicFor(t, settings), kafka, topic: settings.EVENTS_TOPIC, declared: eventTypesOf([notes(3)]), signal: new AbortController().signal, log: silent, building () {}, behind () {} }, projectionsOf([notes(3)]))
    t.same(await shown(), expected, 'after a rebuild')
    await projector.close()
  })
}

t.test('an older projector keeps what a newer release wrote, and the newer one applies it', async t => {
  const { settings, mongo, send, shown } = await system(t)
  await relayOf(t, settings)
  const older = await projectorOf(t, settings, 1)
  const id = await send(1, 'POST', '/notes', ada)
  await send(2, 'PATCH', `/notes/${id}`, { ...ada, text: 'on looms' })
  await send(1, 'PATCH', `/notes/${id}`, { ...ada, text: 'on paper' })
  await send(1, 'POST', '/notes', { ...ada, text: 'on something else' })
  const letters = async () => (await mongo.collection('deadLetters').find().sort({ version: 1 }).toArray()).map(({ version, waits, reason }) => ({ version, waits, reason: reason as string }))
  await until(async () => (await letters()).length === 2 && (await shown()).length === 2, 'the letters, and what is of another note')
  t.match(await letters(), [{ version: 2, waits: false, reason: /NoteRewritten is of version 2, and nobody here knows a newer one than 1/ }, { version: 3, waits: true }])
  t.same(await shown(), [{ version: 1, ...ada }, { version: 1, ...ada, text: 'on something else' }])
  await older.close()
  const [projection] = projectionsOf([notes(2)])
  t.same(await retry(mongo, projection!, id), { applied: 2, left: 0 })
  t.same((await shown())[0], { version: 3, ...written(2, { ...ada, text: 'on paper' }) })
})
