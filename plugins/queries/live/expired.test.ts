/** A resume token from before all that MongoDB keeps: on an oplog whose beginning is really gone, over gRPC, HTTP and the client. */
import { once } from 'node:events'
import t from 'tap'
import { setTimeout } from 'node:timers/promises'
import { credentials, status, type ServiceError } from '@grpc/grpc-js'
import { MongoClient } from 'mongodb'
import { createClient } from '@bifold/client'
import { booksV1 } from '@bifold/proto'
import { emptyReadModels, servers, startApp, stores, until } from '@bifold/test'
import { readEnv } from '@bifold/stack'

const oplogMb = 990 // the least that MongoDB takes
const document = { data: Buffer.alloc(16_000_000) } // as large as there are: 70 of them fill it
const pauseMs = 500 // MongoDB lets go of what is older than its last checkpoint, of which it makes one a minute

t.test('it has expired, and the client begins anew with a snapshot', async t => {
  const shared = await stores(t)
  const { POSTGRES_URL, KAFKA_BROKERS } = shared
  const own = await servers(t, { given: { POSTGRES_URL, KAFKA_BROKERS } }) // what is written here would drive out what others need
  const settings = { ...shared, MONGO_URL: (await readEnv(own.dir))!.MONGO_URL }
  await emptyReadModels(settings)
  const mongo = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => await mongo.close())
  await mongo.db().collection<{ _id: string }>('books').insertOne({ _id: '019a0000-0000-7000-8000-000000000001', version: 1, title: 'Emma', authors: ['Jane Austen'] } as never)
  const { app, url } = await startApp(t, 'query', settings)
  const address = `127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`
  const client = createClient(booksV1.BookQueryServiceDefinition, address)
  t.teardown(() => client.close())
  /** What is told until there is a token to go on from. */
  const told = async (from: string) => {
    const messages: booksV1.WatchBooksResponse[] = []
    for await (const message of client.watchBooks({ resumeToken: from })) {
      messages.push(message)
      if (message.resumeToken !== '') break
    }
    return { snapshotBegins: messages[0]!.snapshotBegins, titles: messages.flatMap(({ books }) => books.map(({ title }) => title)), resumeToken: messages.at(-1)!.resumeToken }
  }
  const { resumeToken } = await told('')

  const oplog = mongo.db('local').collection<{ ts: { toString (): string } }>('oplog.rs')
  const beginning = async () => String((await oplog.find().limit(1).toArray())[0]!.ts)
  const before = await beginning()
  await mongo.db('admin').command({ replSetResizeOplog: 1, size: oplogMb })
  const write = async () => { await mongo.db().collection<{ _id: number }>('large').replaceOne({ _id: 1 }, document, { upsert: true, writeConcern: { w: 1 } }) }
  for (let n = 0; n < 70; n++) await write()
  await until(async () => {
    await write()
    await setTimeout(pauseMs)
    return await beginning() !== before
  }, 'the beginning of the oplog to be gone')

  const response = await fetch(`${url}/books:watch`, { headers: { 'last-event-id': resumeToken } })
  t.match({ status: response.status, body: await response.json() }, { status: 410, body: { code: 'RESUME_TOKEN_EXPIRED' } })
  const browser = await fetch(`${url}/books:watch`, { headers: { 'last-event-id': resumeToken, accept: 'text/event-stream' } })
  let text = ''
  for await (const part of browser.body!.pipeThrough(new TextDecoderStream())) if (/^event: .*\ndata: .*\n\n/m.test(text += part)) break
  t.match(text, /^event: snapshot\ndata: \{"snapshotBegins":true,.*"Emma"/m, 'a browser, which would give up, is told a snapshot')
  const rpc = new booksV1.BookQueryServiceClient(address, credentials.createInsecure())
  t.teardown(() => rpc.close())
  const [error] = await once(rpc.watchBooks(booksV1.WatchBooksRequest.fromPartial({ resumeToken })), 'error') as [ServiceError]
  t.match({ code: error.code, details: error.details }, { code: status.OUT_OF_RANGE, details: /begin without one/ })
  t.match(await told(resumeToken), { snapshotBegins: true, titles: ['Emma'] }, 'by itself')
})
