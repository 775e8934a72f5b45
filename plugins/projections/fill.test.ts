/** Read models that have nothing are filled from PostgreSQL, exactly, while commands go on. */
import { setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { sql } from 'kysely'
import { projection, update, type Module } from '@bifold/cqrs'
import kafka from '@bifold/kafka'
import { modules } from '@bifold/modules'
import mongo from '@bifold/mongo'
import { build } from '@bifold/service'
import { kafkaFor, pipeline, until, type Pipeline } from '@bifold/test'
import { comparable, compare } from '@bifold/tools/compare'
import projections from './index.ts'

const emma = { title: 'Emma', authors: ['Jane Austen'] }

/** Counts every event, of all books in one document: what is applied twice or not at all stays visible for ever. */
const counts = projection<any, any>({
  collection: 'counts',
  indexes: [],
  on: {
    BookAdded: () => update('all', { inc: { events: 1 } }),
    BookRevised: () => update('all', { inc: { events: 1 } }),
    BookWithdrawn: () => update('all', { inc: { events: 1 } })
  }
})

async function counter (t: Test, { settings }: Pipeline) {
  const counted = { ...modules[0], projections: [counts] } as unknown as Module
  const app = await build(async app => {
    await app.register(kafka, { brokers: settings.KAFKA_BROKERS })
    await app.register(mongo, { url: settings.MONGO_URL })
    await app.register(projections, { modules: [counted], url: settings.POSTGRES_URL, topic: settings.EVENTS_TOPIC, lagMaxSeconds: 300 })
  }, {}, { name: 'counter', logLevel: 'silent' })
  t.teardown(async () => await app.close())
  await app.ready()
  return app
}

const equal = async ({ db, mongo }: Pipeline) => {
  const found = await Promise.all(comparable(modules).map(async aggregate => await compare(db, mongo as never, aggregate)))
  return found.some(({ postgres }) => postgres > 0) && found.every(({ missing, extra, differing }) => missing + extra + differing === 0)
}

async function write (line: Pipeline, count: number) {
  await Promise.all(Array.from({ length: count }, async (_, n) => {
    const { body: { id } } = await line.post('/books', { ...emma, title: `Book ${n}` })
    if (n % 2 === 0) await line.send('PATCH', `/books/${id}`, { price: n })
    if (n % 5 === 0) await line.send('DELETE', `/books/${id}`)
  }))
}

/** As after the retention time: what the topic had is gone. */
async function emptyTopic ({ settings }: Pipeline) {
  const admin = kafkaFor(settings).admin()
  await admin.connect()
  const partitions = (await admin.fetchTopicOffsets(settings.EVENTS_TOPIC)).map(({ partition, high }) => ({ partition, offset: high }))
  await admin.deleteTopicRecords({ topic: settings.EVENTS_TOPIC, partitions })
  await admin.disconnect()
}

const events = async ({ db }: Pipeline) => (await sql<{ count: number }>`select count(*) as count from events`.execute(db)).rows[0]!.count

t.test('an empty MongoDB at start is filled, though the topic has nothing left', async t => {
  const line = await pipeline(t)
  await write(line, 100)
  await until(async () => await equal(line), 'the projection')
  await line.apps.projector.app.close()
  await line.mongo.dropDatabase()
  await emptyTopic(line)
  await line.restart('projector')
  t.ok(await equal(line), 'it is full when it is ready')
  await write(line, 20)
  await until(async () => await equal(line), 'and what comes after')
  t.equal(await line.metric('projector', 'bifold_projector_order_breaks_total'), 0)
})

t.test('a MongoDB that is emptied under a running projector is filled, with the next event or without one', async t => {
  const line = await pipeline(t)
  await write(line, 50)
  await until(async () => await equal(line), 'the projection')
  for (const events of [1, 0]) {
    await until(async () => (await fetch(`${line.apps.projector.url}/health/ready`)).ok && await line.metric('projector', 'bifold_projector_lag_events') === 0, 'nothing to be under way')
    await line.mongo.dropDatabase()
    await emptyTopic(line)
    await write(line, events)
    await until(async () => await equal(line), `the read model, after ${events} events`)
  }
  t.equal((await line.mongo.collection('books').indexes()).length, 5, 'its indexes are there')
})

t.test('a collection that is dropped is filled again, beside a projector that is at work and before one that begins', async t => {
  const line = await pipeline(t)
  await write(line, 50)
  await until(async () => await equal(line), 'the projection')
  await line.mongo.collection('books').drop()
  await until(async () => await equal(line), 'the read model')
  await line.apps.projector.app.close()
  await line.mongo.collection('books').drop()
  await line.restart('projector')
  await until(async () => await equal(line), 'the read model, once more')
})

t.test('what Kafka has deleted unseen is filled in', async t => {
  const line = await pipeline(t)
  await write(line, 50)
  await until(async () => await equal(line), 'the projection')
  await line.apps.projector.app.close()
  await write(line, 50)
  await until(async () => await line.metric('relay', 'bifold_relay_lag_events') === 0, 'the topic')
  await emptyTopic(line)
  await line.restart('projector')
  await until(async () => await equal(line), 'the read model')
})

t.test('each event counts once, while commands go on', async t => {
  const line = await pipeline(t)
  await line.apps.projector.app.close() // its group is the counter's too
  await write(line, 100)
  const end = new AbortController()
  const writing = (async () => { while (!end.signal.aborted) await write(line, 10) })()
  for (let round = 0; round < 3; round++) {
    const app = await counter(t, line)
    await until(async () => (await app.inject('/health/ready')).statusCode === 200, 'the counter')
    await setTimeout(300)
    await app.close()
    if (round < 2) {
      await line.mongo.collection('counts').drop()
      await line.mongo.collection('checkpoints').deleteMany({ projection: 'counts' })
    }
  }
  end.abort()
  await writing
  await counter(t, line)
  const all = await events(line)
  await until(async () => (await line.mongo.collection('counts').findOne())?.['events'] === all, `a count of ${all}`)
  await setTimeout(300)
  t.equal((await line.mongo.collection('counts').findOne())?.['events'], all, 'and no more')
})

t.test('several projectors at once: one fills', async t => {
  const line = await pipeline(t)
  await line.apps.projector.app.close() // its group is the counter's too
  await write(line, 100)
  const apps = await Promise.all([counter(t, line), counter(t, line), counter(t, line)])
  await until(async () => (await Promise.all(apps.map(async app => await app.inject('/health/ready')))).every(({ statusCode }) => statusCode === 200), 'all three')
  t.equal((await line.mongo.collection('counts').findOne())?.['events'], await events(line))
})

t.test('what a killed one has left is removed; one that is at it is left alone', async t => {
  const line = await pipeline(t)
  await line.apps.projector.app.close() // its group is the counter's too
  await write(line, 20)
  await line.mongo.collection('counts').insertOne({ _id: 'all' as never, events: 7 })
  await line.mongo.collection('builds').insertOne({ _id: 'counts' as never, token: 'of another', next: 'counts.build-0', at: new Date(Date.now() - 8000) })
  const app = await counter(t, line)
  await until(async () => /counts is being built by somebody else/.test((await app.inject('/health/ready')).json().checks.projector.reason), 'the reason to be told')
  await until(async () => (await app.inject('/health/ready')).statusCode === 200, 'the other to be given up')
  t.equal((await line.mongo.collection('counts').findOne())?.['events'], await events(line))
  t.equal(await line.mongo.collection('builds').countDocuments(), 0)
})
