/** What nobody waits for any more is not worked on: MongoDB's own list of operations shows it. */
import t, { type Test } from 'tap'
import { setTimeout } from 'node:timers/promises'
import { credentials, Metadata, status, type ClientUnaryCall, type ServiceError } from '@grpc/grpc-js'
import { MongoClient } from 'mongodb'
import { booksV1 } from '@bifold/proto'
import { emptyReadModels, startApp, stores, until } from '@bifold/test'

const id = (n: number) => `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`
const slowMs = 20_000 // what a read takes that is left alone, longer than anybody here waits
const pauseMs = 100 // of it for each document

/** A query service whose read model takes its time for each document. */
async function slowService (t: Test) {
  const settings = await stores(t)
  await emptyReadModels(settings)
  const client = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => await client.close())
  const db = client.db()
  // Many that are slow, since MongoDB ends none half-way; and all of one id, so that reads by id meet them all.
  await db.collection('shelf').insertMany(Array.from({ length: slowMs / pauseMs }, () => ({ version: 1, title: 'Emma', authors: ['Jane Austen'] })))
  const slowly = { $function: { body: `function () { sleep(${pauseMs}); return true }`, args: [], lang: 'js' } }
  await db.dropCollection('books')
  await db.createCollection('books', { viewOn: 'shelf', pipeline: [{ $match: { $expr: slowly } }, { $set: { _id: id(1) } }] })
  const { app, url } = await startApp(t, 'query', settings)
  const rpc = new booksV1.BookQueryServiceClient(`127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`, credentials.createInsecure())
  t.teardown(() => rpc.close())
  const underWay = async () => (await client.db('admin').aggregate([{ $currentOp: {} }, { $match: { ns: `${db.databaseName}.shelf`, active: true } }]).toArray()).length
  return {
    url,
    underWay,
    /** Waits until so many operations are under way, and tells how long that took. */
    async reaches (count: number) {
      const begun = Date.now()
      await until(async () => await underWay() === count, `${count} operations`)
      return Date.now() - begun
    },
    get: (n: number, deadlineMs = slowMs) => started(told => rpc.getBook({ id: id(n) }, new Metadata(), { deadline: Date.now() + deadlineMs }, told)),
    list: (deadlineMs = slowMs) => started(told => rpc.listBooks(booksV1.ListBooksRequest.fromPartial({}), new Metadata(), { deadline: Date.now() + deadlineMs }, told))
  }
}

/** A call under way, and the status that it ends with. */
function started (begin: (told: (error: ServiceError | null) => void) => ClientUnaryCall) {
  const end = Promise.withResolvers<status>()
  const call = begin(error => end.resolve(error?.code ?? status.OK))
  return { cancel: () => call.cancel(), status: end.promise }
}

const soonMs = 3000 // of a busy machine; left alone, each would go on for longer

t.test('a list that is cancelled is ended in MongoDB', async t => {
  const { list, reaches } = await slowService(t)
  const call = list()
  await reaches(1)
  call.cancel()
  t.equal(await call.status, status.CANCELLED)
  t.ok(await reaches(0) < soonMs)
})

t.test('so is one over HTTP whose client goes away', async t => {
  const { url, reaches } = await slowService(t)
  const away = new AbortController()
  const request = fetch(`${url}/books`, { signal: away.signal })
  await reaches(1)
  away.abort()
  await t.rejects(request)
  t.ok(await reaches(0) < soonMs)
})

t.test('a read that others share is ended when the last of them is gone, and not before', async t => {
  const { get, reaches, underWay } = await slowService(t)
  const calls = [get(1), get(2)]
  await reaches(1)
  calls[0]!.cancel()
  t.equal(await calls[0]!.status, status.CANCELLED)
  await setTimeout(500)
  t.equal(await underWay(), 1, 'it goes on for the other')
  calls[1]!.cancel()
  t.equal(await calls[1]!.status, status.CANCELLED)
  t.ok(await reaches(0) < soonMs)
})

t.test('a deadline is carried to MongoDB, for lists and for reads by id', async t => {
  const { get, list, reaches } = await slowService(t)
  for (const begin of [get.bind(undefined, 1), list]) {
    const call = begin(1000)
    await reaches(1)
    t.equal(await call.status, status.DEADLINE_EXCEEDED)
    t.ok(await reaches(0) < soonMs)
  }
})
