/** `npm run rebuild` on the whole path, while commands and reads go on: nothing fails, nothing goes back, nothing is missing or counted twice. */
import { setTimeout } from 'node:timers/promises'
import { execa } from 'execa'
import t, { type Test } from 'tap'
import { eventTypesOf, insert, projection, remove, replace, update, type AnyProjection, type Module } from '@bifold/cqrs'
import kafka from '@bifold/kafka'
import { modules } from '@bifold/modules'
import mongo from '@bifold/mongo'
import projections from '@bifold/projections'
import { rebuild } from '@bifold/projections/rebuild'
import { build } from '@bifold/service'
import { comparable, compare } from '@bifold/tools/compare'
import { sql } from 'kysely'
import { kafkaFor, pipeline, startApp, until, type Pipeline } from './pipeline.ts'

const emma = { title: 'Emma', authors: ['Jane Austen'] }
const silent = { info () {}, warn () {}, error () {}, debug () {} } as never

/** Counts every event of a book: what is applied twice or not at all stays visible for ever. */
const count = ({ id }: { id: string }) => update<any>(id, { inc: { events: 1 } })
const counts = projection<any, any>({ collection: 'counts', indexes: [{ events: 1 }], on: { BookAdded: count, BookRevised: count, BookWithdrawn: count } })

async function projector (t: Test, { settings }: Pipeline, projection: AnyProjection, grace: { graceMs?: number } = {}) {
  const app = await build(async app => {
    await app.register(kafka, { brokers: settings.KAFKA_BROKERS })
    await app.register(mongo, { url: settings.MONGO_URL })
    await app.register(projections, { modules: [{ ...modules[0], projections: [projection] } as unknown as Module], url: settings.POSTGRES_URL, topic: settings.EVENTS_TOPIC, lagMaxSeconds: 300, ...grace })
  }, {}, { name: 'projector', logLevel: 'silent' })
  t.teardown(async () => await app.close())
  await app.ready()
  return { app, ready: async () => (await app.inject('/health/ready')).json() as { status: string, checks: Record<string, { reason?: string }> } }
}

async function rebuildHere (t: Test, { settings, mongo }: Pipeline, projection: AnyProjection, { signal = new AbortController().signal, building = () => {}, ...grace }: { signal?: AbortSignal, building?: () => void, graceMs?: number } = {}) {
  const kafka = kafkaFor(settings)
  const admin = kafka.admin()
  await admin.connect()
  t.teardown(async () => await admin.disconnect())
  return await rebuild({ url: settings.POSTGRES_URL, db: mongo, admin, kafka, topic: settings.EVENTS_TOPIC, declared: eventTypesOf(modules), signal, log: silent, building, behind () {}, ...grace }, [projection])
}

const command = ({ settings }: Pipeline) => execa('node', ['../tools/rebuild.ts'], { cwd: import.meta.dirname, env: Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, String(value)])), reject: false, all: true })

const equal = async ({ db, mongo }: Pipeline) => {
  const found = await Promise.all(comparable(modules).map(async aggregate => await compare(db, mongo as never, aggregate)))
  return found.some(({ postgres }) => postgres > 0) && found.every(({ missing, extra, differing }) => missing + extra + differing === 0)
}

/** Writes until it is ended; each book is added, revised a few times, and one in five is withdrawn. */
function writing (line: Pipeline) {
  const end = new AbortController()
  const done = (async () => {
    for (let n = 0; !end.signal.aborted; n++) {
      const { body: { id } } = await line.post('/books', { ...emma, title: `Book ${n}` })
      for (let price = 1; price < 4; price++) await line.send('PATCH', `/books/${id}`, { price })
      if (n % 5 === 0) await line.send('DELETE', `/books/${id}`)
    }
  })()
  return { async end () { end.abort(); await done } }
}

/** Reads one book over and over while it is revised: no failure, and no version that is lower than one before. */
async function reading (line: Pipeline) {
  const end = new AbortController()
  const { body: { id } } = await line.post('/books', emma)
  await until(async () => (await line.get(`/books/${id}`)).status === 200)
  const faults: string[] = []
  let [reads, last] = [0, 0]
  const revise = (async () => { for (let price = 0; !end.signal.aborted; price++) await line.send('PATCH', `/books/${id}`, { price }) })()
  const read = (async () => {
    for (; !end.signal.aborted; reads++) {
      const [one, list] = await Promise.all([line.get(`/books/${id}`), line.get('/books?pageSize=5')])
      if (one.status !== 200 || list.status !== 200) faults.push(`${one.status} ${list.status} ${JSON.stringify(one.body)}`)
      else if (one.body.version < last) faults.push(`${one.body.version} after ${last}`)
      else last = one.body.version
    }
  })()
  return { faults, async end () { end.abort(); await Promise.all([revise, read]); return reads } }
}

async function traces ({ mongo }: Pipeline): Promise<string[]> {
  const collections = (await mongo.listCollections().toArray()).map(({ name }) => name).filter(name => name.includes('.build-'))
  const left = [...await mongo.collection('checkpoints').find({ projection: /build/ }).toArray(), ...await mongo.collection('builds').find().toArray()]
  return [...collections, ...left.map(document => JSON.stringify(document))]
}

t.test('while commands and reads go on', async t => {
  const line = await pipeline(t)
  const writers = [writing(line), writing(line)]
  const reader = await reading(line)
  await setTimeout(1000)
  for (let round = 0; round < 3; round++) {
    const { exitCode, all } = await command(line)
    t.equal(exitCode, 0, String(all))
    t.match(all, /Rebuilt books\b.* from [\d,]+ events[^]*What was live before is kept as books\.old-\d{4}-\S+Z\b.* until \d{4}-\S+Z/)
  }
  await setTimeout(500)
  t.ok(await reader.end() > 100)
  t.same(reader.faults.slice(0, 5), [])
  for (const { end } of writers) await end()
  await until(async () => await equal(line), 'the read model to be equal')
  t.same(await traces(line), [])
  t.same((await line.mongo.collection('books').indexes()).length, 5, 'its indexes are there')
})

t.test('each event counts once, rebuilt over and over', async t => {
  const line = await pipeline(t)
  await line.apps.projector.app.close() // its group is the counter's too
  const writer = writing(line)
  const counter = await projector(t, line, counts)
  await until(async () => (await counter.ready()).status === 'ready', 'the counter')
  for (let round = 0; round < 4; round++) await rebuildHere(t, line, counts)
  await writer.end()
  const truth = async () => (await sql<{ id: string, events: number }>`select aggregate_id::text as id, count(*)::int as events from events group by 1 order by 1`.execute(line.db)).rows
  const all = await truth()
  const counted = async () => (await line.mongo.collection('counts').find().sort({ _id: 1 }).toArray()).map(({ _id, events }) => ({ id: String(_id), events: events as number }))
  const sum = (counts: readonly { events: number }[]) => counts.reduce((sum, { events }) => sum + events, 0)
  await until(async () => sum(await counted()) >= sum(all), 'the counts')
  await setTimeout(300) // what is counted twice comes soon
  t.same(await counted(), all)
  t.same(await traces(line), [])
})

t.test('what was live before is kept for a grace; then the next rebuild removes it, or a projector that runs', async t => {
  const line = await pipeline(t)
  await line.apps.projector.app.close()
  const old = async () => (await line.mongo.listCollections({ name: /^counts\.old-/ }).toArray()).map(({ name }) => name).sort()
  const counter = await projector(t, line, counts)
  await until(async () => (await counter.ready()).status === 'ready', 'the counter')
  await line.mongo.collection('counts').insertOne({ of: 'the first' })
  const [first] = await rebuildHere(t, line, counts)
  const [second] = await rebuildHere(t, line, counts)
  t.same(await old(), [first!.name, second!.name])
  t.match(await line.mongo.collection(first!.name).findOne(), { of: 'the first' })
  t.match(await line.mongo.collection(first!.name).indexes(), [{}, { key: { events: 1 } }])
  t.ok(first!.until.getTime() > Date.now() + 9 * 60_000)
  const [third] = await rebuildHere(t, line, counts, { graceMs: 0 })
  t.same(await old(), [third!.name])
  await projector(t, line, counts, { graceMs: 0 })
  await until(async () => (await old()).length === 0, 'a projector to remove it')
})

t.test('killed at any moment, it can be run again; the live read model goes on', async t => {
  const line = await pipeline(t)
  const writer = writing(line)
  await setTimeout(500)
  for (const afterMs of [400, 600, 700, 800, 900, 1000]) {
    const run = command(line)
    await Promise.race([setTimeout(afterMs), run])
    run.kill('SIGKILL')
    await run
    // Whoever comes next waits until the one before can be taken for dead.
    await line.mongo.collection('builds').updateMany({}, { $set: { at: new Date(0) } })
  }
  const { exitCode, all } = await command(line)
  t.equal(exitCode, 0, String(all))
  await writer.end()
  await until(async () => await equal(line), 'the read model to be equal')
  t.same(await traces(line), [])
})

t.test('an event that no module knows parks its book in what is rebuilt, too', async t => {
  const line = await pipeline(t)
  await line.post('/books', emma)
  const id = '019a0000-0000-7000-8000-000000000000'
  await sql`insert into events (aggregate, aggregate_id, version, type, value, request_id, traceparent, time)
    values ('books', ${id}, 1, 'BookBurnt', ${JSON.stringify({ task: 'insert', data: { id, version: 1 } })}, 'r', '', now())`.execute(line.db)
  const parked = async () => (await line.mongo.collection('deadLetters').find({ projection: 'books' }).toArray()).map(({ aggregateId, waits, topic }) => [aggregateId, waits, topic])
  await until(async () => (await parked()).length === 1, 'the letter')
  await rebuildHere(t, line, modules[0]!.projections[0]!)
  t.same(await parked(), [[id, false, line.settings.EVENTS_TOPIC]])
})

t.test('a second one is refused while the first is at it; Ctrl-C leaves everything as it was', async t => {
  const line = await pipeline(t)
  await line.post('/books', emma)
  await line.mongo.collection('builds').insertOne({ _id: 'books' as never, token: 'of another', next: 'books.build-0', at: new Date() })
  t.match(await command(line), { exitCode: 1, all: /books is being built by somebody else/ })
  await line.mongo.collection('builds').deleteMany({})
  const stopped = new AbortController()
  stopped.abort()
  await t.rejects(rebuildHere(t, line, modules[0]!.projections[0]!, { signal: stopped.signal }), { message: /interrupted/ })
  t.same(await traces(line), [])
  await until(async () => await equal(line), 'the read model to be equal')
})

t.test('a projector makes the collection of a read model, though there are neither events nor indexes: an empty catalogue is an empty list', async t => {
  const line = await pipeline(t)
  t.match(await line.get('/books'), { status: 200, body: { books: undefined } })
  t.match(await line.get('/books/019a0000-0000-7000-8000-000000000000'), { status: 404 })
  await line.apps.projector.app.close()
  const plain = await projector(t, line, { ...counts, collection: 'plain', indexes: [] })
  await until(async () => (await plain.ready()).status === 'ready', 'the projector')
  t.ok(await line.mongo.listCollections({ name: 'plain' }).hasNext())
})

t.test('a changed projection: the old projector works until the rebuild, the new one after it', async t => {
  const line = await pipeline(t)
  await line.apps.projector.app.close()
  const titles = (version: number, title: (record: { title: string }) => string): AnyProjection => projection<any, any>({
    collection: 'titles',
    version,
    indexes: [],
    on: {
      BookAdded: ({ id, record }) => insert({ _id: id, title: title(record) }),
      BookRevised: ({ id, record }) => replace({ _id: id, title: title(record) }),
      BookWithdrawn: ({ id }) => remove(id)
    }
  })
  const [plain, loud] = [titles(1, ({ title }) => title), titles(2, ({ title }) => title.toUpperCase())]
  const shown = async () => (await line.mongo.collection('titles').find().sort({ _id: 1 }).toArray()).map(({ title }) => title as string)
  const older = await projector(t, line, plain)
  await until(async () => (await older.ready()).status === 'ready', 'the old one')
  const newer = await projector(t, line, loud)
  await until(async () => /was built by version 1 of its projection, and this projector has version 2: run "npm run rebuild"/.test((await newer.ready()).checks['read models']?.reason ?? ''), 'the new one to say what it waits for')
  const { body: { id } } = await line.post('/books', emma)
  await until(async () => (await shown()).join() === 'Emma', 'the old one to go on')
  // After the snapshot, so that both stand behind it at the switch, and the old one could go on.
  let revised: unknown
  await rebuildHere(t, line, loud, { building: () => { revised ??= line.send('PATCH', `/books/${id}`, { title: 'Emma, revised' }) } })
  await line.send('PATCH', `/books/${id}`, { title: 'Emma, again' })
  await until(async () => (await newer.ready()).status === 'ready', 'the new one')
  await line.post('/books', { ...emma, title: 'Persuasion' })
  await until(async () => (await shown()).join() === 'EMMA, AGAIN,PERSUASION', 'the new one to go on')
  t.match((await older.ready()).checks['read models'], { reason: /a newer one is to take its place/ })
})

t.test('a projector for some read models, and another for the rest: each keeps its own', async t => {
  const line = await pipeline(t)
  await line.apps.projector.app.close()
  const read = async (name: string) => await line.mongo.collection(name).countDocuments()
  const one = await startApp(t, 'projector', { ...line.settings, READ_MODELS: 'members' })
  await line.post('/lending/members', { name: 'Fanny Price' })
  await line.post('/books', emma)
  await until(async () => await read('members') === 1, 'the member')
  t.equal(await read('books'), 0)
  await startApp(t, 'projector', { ...line.settings, READ_MODELS: 'books,loans' })
  await until(async () => await read('books') === 1, 'the book')
  t.match(await (await fetch(`${one.url}/health/ready`)).json(), { status: 'ready' })
  await t.rejects(startApp(t, 'projector', { ...line.settings, READ_MODELS: 'novels' }), { message: /READ_MODELS: no module has the read model 'novels'; there are books/ })
})
