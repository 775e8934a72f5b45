/** The whole path on real servers: written over HTTP, read over gRPC and HTTP, through restarts, exactly once and in order. */
import t from 'tap'
import { status, type ServiceError } from '@grpc/grpc-js'
import { checkAlerts } from './alerts.ts'
import { call, kafkaFor, pipeline, readTopic, until, type AppName, type Pipeline } from './pipeline.ts'
import { modules } from '@bifold/modules'
import { comparable, compare } from '@bifold/tools/compare'

const emma = { title: 'Emma', authors: ['Jane Austen'], publishedYear: 1815, language: 'eng' }

const projected = async ({ mongo }: Pipeline, id: string, version: number) =>
  await until(async () => await mongo.collection('books').findOne({ _id: id, version } as never) ?? undefined, `version ${version} of ${id}`)

const equal = async ({ db, mongo }: Pipeline) => {
  const found = await Promise.all(comparable(modules).map(async aggregate => await compare(db, mongo as never, aggregate)))
  return found.every(({ missing, extra, differing }) => missing + extra + differing === 0)
}

t.test('a book is added, revised and withdrawn, and seen over gRPC and HTTP', async t => {
  const line = await pipeline(t)
  const added = await line.post('/books', emma, { 'x-request-id': 'request-1' })
  t.match(added, { status: 201, body: { version: 1 } })
  const { id } = added.body
  t.equal(added.headers.get('location'), `/books/${id}`)
  t.equal(added.headers.get('etag'), '"1"')
  await projected(line, id, 1)
  t.match(await call(line.books.getBook.bind(line.books), { id }), { id, version: 1, ...emma })
  t.match(await line.get(`/books/${id}`), { status: 200, body: { id, version: 1, ...emma } })

  t.match(await line.send('PATCH', `/books/${id}`, { price: 799, language: null }, { 'if-match': '"1"' }), { status: 200, body: { id, version: 2 } })
  await projected(line, id, 2)
  const revised = (await line.get(`/books/${id}`)).body
  t.match(revised, { version: 2, price: 799, title: 'Emma' })
  t.notOk('language' in revised, 'null took the field away')

  t.match(await line.send('DELETE', `/books/${id}`), { status: 200, body: { version: 3 } })
  await until(async () => (await line.get(`/books/${id}`)).status === 404, 'the book to be gone')
  await t.rejects(call(line.books.getBook.bind(line.books), { id }), { code: status.NOT_FOUND })
  t.equal(await line.mongo.collection('books').countDocuments(), 0)

  const relayed = (await readTopic(line.settings)).filter(({ key }) => key === id)
  t.match(relayed, [
    { value: { task: 'insert', data: { id, ...emma } }, headers: { ce_type: 'BookAdded', ce_version: '1', ce_requestid: 'request-1', ce_specversion: '1.0', 'content-type': 'application/json', traceparent: /^00-/ } },
    { value: { task: 'update', data: { id, price: 799 } }, headers: { ce_type: 'BookRevised', ce_version: '2' } },
    { value: { task: 'delete', data: { id } }, headers: { ce_type: 'BookWithdrawn', ce_version: '3' } }
  ])
  t.ok(line.apps.gateway.logs.some(({ reqId, msg }) => reqId === 'request-1' && msg === 'command committed'), "the request id is in the gateway's log")
  t.ok(line.apps.projector.logs.some(({ requestIds }) => (requestIds as string[] | undefined)?.includes('request-1')), "and in the projector's")

  // Here, where all apps run and have something to tell.
  await t.test('docs/alerts.yml asks for metrics that are served, one rule for each row of docs/operations.md', async t => {
    t.match(await line.send('PATCH', `/books/${id}`, { price: 1 }), { status: 409, body: { code: 'BOOKS_WITHDRAWN' } })
    await checkAlerts(t, line, 'BOOKS_WITHDRAWN')
  })
})

t.test('each app restarted in the middle of the work: nothing lost, nothing twice, nothing out of order', async t => {
  const line = await pipeline(t)
  const versions = new Map<string, number>()
  const stop = new AbortController()
  // Four clients that add and revise; a command is counted when it is acknowledged.
  const clients = Array.from({ length: 4 }, async (_, client) => {
    for (let n = 0; !stop.signal.aborted; n++) {
      try {
        const { status, body } = await line.post('/books', { ...emma, title: `Book ${client}-${n}` })
        if (status !== 201) continue
        versions.set(body.id, body.version)
        for (let price = 1; price <= 3; price++) {
          const revised = await line.send('PATCH', `/books/${body.id}`, { price })
          if (revised.status === 200) versions.set(body.id, revised.body.version)
        }
      } catch {
        await new Promise(resolve => setTimeout(resolve, 10)) // the gateway is restarting
      }
    }
  })
  for (const name of ['relay', 'projector', 'query', 'gateway', 'relay', 'projector'] as AppName[]) {
    await new Promise(resolve => setTimeout(resolve, 300)) // some work between two restarts
    await line.restart(name)
  }
  stop.abort()
  await Promise.all(clients)
  t.ok(versions.size > 20, `${versions.size} books were written meanwhile`)

  const [counted] = await line.db.selectFrom('events').select(({ fn }) => fn.countAll<number>().as('events')).execute()
  await until(async () => (await readTopic(line.settings)).length >= counted!.events, 'the topic to have all')
  const messages = await readTopic(line.settings)
  t.equal(messages.length, counted!.events, 'each event is on the topic once')
  const last = new Map<string, number>()
  let breaks = 0
  for (const { key, headers: { ce_version: version } } of messages) {
    if (Number(version) !== (last.get(key) ?? 0) + 1) breaks++
    last.set(key, Number(version))
  }
  t.equal(breaks, 0, 'the versions of each book follow each other')
  for (const [id, version] of versions) if ((last.get(id) ?? 0) < version) t.fail(`${id} was acknowledged at ${version}, the topic has ${last.get(id)}`)
  await until(async () => await equal(line), 'MongoDB to equal PostgreSQL')
})

t.test('a plain consumer rebuilds the collection from task and data alone', async t => {
  const line = await pipeline(t)
  const ids = await Promise.all(Array.from({ length: 20 }, async (_, n) => (await line.post('/books', { ...emma, title: `Book ${n}` })).body.id as string))
  await Promise.all(ids.slice(0, 10).map(async (id, price) => await line.send('PATCH', `/books/${id}`, { price })))
  await Promise.all(ids.slice(5, 8).map(async id => await line.send('DELETE', `/books/${id}`)))
  await until(async () => await line.mongo.collection('books').countDocuments() === 17 && await equal(line), 'the projection')

  const collection = new Map<string, unknown>()
  for (const { value: { task, data } } of await readTopic(line.settings)) {
    if (task === 'delete') collection.delete(data.id)
    else collection.set(data.id, data)
  }
  const documents = await line.mongo.collection('books').find({}, { projection: { _message: 0 } }).sort({ _id: 1 }).toArray()
  t.same([...collection.values()].sort((a, b) => (a as { id: string }).id < (b as { id: string }).id ? -1 : 1), documents.map(({ _id: id, ...book }) => ({ id, ...book })))
})

t.test('a message that nobody can read stops neither the projector nor the others, and is kept', async t => {
  const line = await pipeline(t)
  const producer = kafkaFor(line.settings).producer()
  await producer.connect()
  const junk = [
    { key: 'a', value: 'not JSON', headers: { ce_version: '1', ce_time: new Date().toISOString() } },
    { key: 'b', value: JSON.stringify({ task: 'insert', data: { id: 'b' } }) },
    { key: null, value: null },
    { key: 'c', value: JSON.stringify({ task: 'insert', data: { id: 'c' } }), headers: { ce_type: 'Unheard', ce_source: '/books', ce_version: '1', ce_time: new Date().toISOString(), ce_sequence: '0' } }
  ]
  for (const message of junk) await producer.send({ topic: line.settings.EVENTS_TOPIC, messages: [0, 1, 2, 3, 4, 5].map(partition => ({ ...message, partition })) })
  await producer.disconnect()
  const { body: { id } } = await line.post('/books', emma)
  await projected(line, id, 1)
  const letters = line.mongo.collection('deadLetters')
  await until(async () => await letters.countDocuments() === 24, 'the dead letters')
  t.equal((await letters.findOne({ key: { $ne: null }, reason: /not JSON/ }))!['value'].toString(), 'not JSON', 'the raw message is kept')
  // MongoDB shows them a moment before the projector hears that they are committed.
  await until(async () => /bifold_projector_dead_letters_total 24$/m.test(await (await fetch(`${line.apps.projector.url}/metrics`)).text()), 'the metric to count them')
  t.equal((await fetch(`${line.apps.projector.url}/health/ready`)).status, 200)

  await line.restart('relay')
  const { body: { id: second } } = await line.post('/books', { ...emma, title: 'After the junk' })
  await projected(line, second, 1)
})

t.test('a message that is on the topic twice is applied once', async t => {
  const line = await pipeline(t)
  const { body: { id } } = await line.post('/books', emma)
  await line.send('PATCH', `/books/${id}`, { price: 5 })
  await projected(line, id, 2)
  await line.send('PATCH', `/books/${id}`, { price: 6 })
  await projected(line, id, 3)
  const [added] = await readTopic(line.settings)
  const producer = kafkaFor(line.settings).producer()
  await producer.connect()
  const [again] = await producer.send({ topic: line.settings.EVENTS_TOPIC, messages: [{ key: added!.key, partition: added!.partition, value: JSON.stringify(added!.value), headers: added!.headers }] })
  await producer.disconnect()
  const passed = await until(async () => {
    const checkpoints = await line.mongo.collection('checkpoints').find({ partition: added!.partition }).toArray()
    return checkpoints.every(({ offset }) => offset > Number(again!.baseOffset)) && checkpoints.length
  }, 'the repeated message to be passed')
  t.equal(passed, modules.flatMap(({ projections }) => projections).length, 'by each projection')
  t.ok(await equal(line), 'the old insert changed nothing')
  t.match(await (await fetch(`${line.apps.relay.url}/metrics`)).text(), /bifold_relay_events_total 3/)
  t.equal(line.apps.projector.logs.filter(({ level }) => level as number >= 50).length, 0)
})

t.test('versions that do not follow each other are told: a metric, an error in the log, a detail of readiness', async t => {
  const line = await pipeline(t)
  const producer = kafkaFor(line.settings).producer()
  await producer.connect()
  const id = '019a0000-0000-7000-8000-00000000000a'
  // As only a relay with a bug would send them.
  const messages = [1, 3].map((version, index) => ({
    key: id,
    value: JSON.stringify({ task: index === 0 ? 'insert' : 'update', data: { id, version, ...emma } }),
    headers: { ce_type: index === 0 ? 'BookAdded' : 'BookRevised', ce_source: '/books', ce_version: String(version), ce_time: new Date().toISOString(), ce_sequence: `00000001-${String(index).padStart(16, '0')}-00000000` },
    partition: 0
  }))
  await producer.send({ topic: line.settings.EVENTS_TOPIC, messages })
  await producer.disconnect()
  await until(async () => await line.metric('projector', 'bifold_projector_order_breaks_total') === 1, 'the metric')
  t.match(line.apps.projector.logs.filter(({ level }) => level === 50), [{ msg: 'the versions of an aggregate do not follow each other', id, expected: 2, found: 3 }])
  t.match(await (await fetch(`${line.apps.projector.url}/health/ready`)).json(), { status: 'ready', checks: { order: { ok: true, lastBreak: { id, expected: 2, found: 3 } } } })
})

t.test('the projector begins where the checkpoint in MongoDB says, not where Kafka says', async t => {
  const line = await pipeline(t)
  const ids = await Promise.all(Array.from({ length: 30 }, async (_, n) => (await line.post('/books', { ...emma, title: `Book ${n}` })).body.id as string))
  await until(async () => await line.mongo.collection('books').countDocuments() === ids.length, 'the projection')
  await line.apps.projector.app.close()
  // As after the loss of MongoDB: Kafka's group still says that all was read.
  await line.mongo.dropDatabase()
  await line.restart('projector')
  await until(async () => await line.mongo.collection('books').countDocuments() === ids.length, 'all books again')
  t.ok(await equal(line))
})

t.test('the lag of both hops is 0 when all is done, and seen when the next hop is away', async t => {
  const line = await pipeline(t)
  await line.post('/books', emma)
  await until(async () => await line.mongo.collection('books').countDocuments() === 1, 'the projection')
  t.equal(await line.metric('relay', 'bifold_relay_lag_events'), 0)
  t.equal(await line.metric('relay', 'bifold_relay_oldest_seconds'), 0)
  await until(async () => await line.metric('projector', 'bifold_projector_lag_events') === 0, 'no lag')

  await line.apps.projector.app.close()
  await line.post('/books', { ...emma, title: 'Unseen' })
  await until(async () => (await readTopic(line.settings)).length === 2, 'the topic')
  line.settings.LAG_MAX_SECONDS = -1 // even no lag is too much
  await line.restart('projector', { ready: false })
  t.match(await until(async () => {
    const body = await (await fetch(`${line.apps.projector.url}/health/ready`)).json() as { checks: Record<string, { reason?: string }> }
    return body.checks['lag']!.reason
  }, 'a reason'), /^the oldest event has waited for \d+ s, longer than LAG_MAX_SECONDS -1$/)
  line.settings.LAG_MAX_SECONDS = 300
  await line.restart('projector')
  await until(async () => await line.metric('projector', 'bifold_projector_lag_events') === 0, 'the projection to catch up')
  t.equal(await line.mongo.collection('books').countDocuments(), 2)
  t.equal(await line.metric('projector', 'bifold_projector_oldest_seconds'), 0)
})

t.test('gRPC tells what was wrong with a request', async t => {
  const line = await pipeline(t)
  const refused = async (request: object) => await call(line.books.listBooks.bind(line.books), { author: '', language: '', orderBy: '', pageSize: 0, pageToken: '', ...request } as never).then(() => t.fail('it was accepted'), (error: ServiceError) => error)
  t.match(await refused({ pageSize: 1001 }), { code: status.INVALID_ARGUMENT, details: /page_size must be <= 1000/ })
  t.match(await refused({ orderBy: 'colour' }), { code: status.INVALID_ARGUMENT, details: /order_by must be one of id,/ })
  t.match(await refused({ pageToken: 'forged' }), { code: status.INVALID_ARGUMENT, details: /page_token/ })
  await t.rejects(call(line.books.getBook.bind(line.books), { id: 'x' }), { code: status.INVALID_ARGUMENT, details: /id must be a valid uuid/ })
  await t.rejects(call(line.books.batchGetBooks.bind(line.books), { ids: Array(1001).fill('019a0000-0000-7000-8000-000000000000') }), { code: status.INVALID_ARGUMENT, details: /ids must NOT have more than 1000 items/ })
})
