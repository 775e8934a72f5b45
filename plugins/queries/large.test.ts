/** Answers are bounded in bytes: pages end early, reads by too many ids are refused, and nobody is kept from what he may have. */
import http2 from 'node:http2'
import t, { type Test } from 'tap'
import { credentials, Metadata, status, type ServiceError } from '@grpc/grpc-js'
import fc from 'fast-check'
import { BSON, MongoClient } from 'mongodb'
import { searchable } from '@bifold/cqrs'
import { booksV1 } from '@bifold/proto'
import { call, emptyReadModels, startApp, stores, until } from '@bifold/test'
import { frame, listBooks } from '@bifold/test/raw'
import { answerBytesMax } from './read-model.ts'

const id = (n: number) => `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`

/** A query service with one book for each size of a description, and its clients. */
async function service (t: Test, sizes: readonly number[]) {
  const settings = await stores(t)
  await emptyReadModels(settings)
  const client = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => await client.close())
  const books = sizes.map((size, n) => ({ _id: id(n), version: 1, title: `Book ${(n * 7919) % 1000}`, authors: ['Jane Austen'], description: 'x'.repeat(size) }))
  const stored = books.map(({ _id, ...book }) => ({ _id, ...book, _message: Buffer.from(booksV1.Book.encode(booksV1.Book.fromPartial({ id: _id, ...book })).finish()) }))
  await client.db().collection('books').insertMany(stored as never)
  await client.db().collection('bookSearch').insertMany(books.map(({ _id, version, title, authors }) => ({ _id, version, ...searchable(title, authors) })) as never)
  const { app, url } = await startApp(t, 'query', settings)
  const address = `127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`
  const rpc = new booksV1.BookQueryServiceClient(address, credentials.createInsecure())
  t.teardown(() => rpc.close())
  const get = async (path: string) => {
    const response = await fetch(`${url}${path}`)
    return { status: response.status, body: await response.json() as any }
  }
  const patient = () => [new Metadata(), { deadline: Date.now() + 60_000 }] as const // so much at once takes its time on a busy machine
  const list = async (request: Partial<booksV1.ListBooksRequest>) => await call<booksV1.ListBooksRequest, booksV1.ListBooksResponse>((request, told) => rpc.listBooks(request, ...patient(), told), booksV1.ListBooksRequest.fromPartial(request))
  const batch = async (ids: string[]) => await call<booksV1.BatchGetBooksRequest, booksV1.BatchGetBooksResponse>((request, told) => rpc.batchGetBooks(request, ...patient(), told), { ids })
  const search = async (request: Partial<booksV1.SearchBooksRequest>) => await call<booksV1.SearchBooksRequest, booksV1.SearchBooksResponse>((request, told) => rpc.searchBooks(request, ...patient(), told), booksV1.SearchBooksRequest.fromPartial(request))
  const one = async (id: string) => await call<booksV1.GetBookRequest, booksV1.Book>((request, told) => rpc.getBook(request, ...patient(), told), { id })
  const weights = new Map(books.map(book => [book._id, BSON.calculateObjectSize(book)]))
  return { books, address, get, list, batch, search, one, weigh: (ids: readonly string[]) => ids.reduce((sum, id) => sum + weights.get(id)!, 0) }
}

const tooLarge = { code: status.RESOURCE_EXHAUSTED, details: 'What is asked for is more than one answer may have: ask for fewer ids' }

t.test('pages of books of very different sizes: together they are the whole list, and none is more than a client takes', async t => {
  // From a few bytes to 90 KB, the most that a book can have.
  const [sizes] = fc.sample(fc.noBias(fc.array(fc.oneof(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 1000, max: 90_000 })), { minLength: 600, maxLength: 600 })), { seed: 7, numRuns: 1 })
  const { books, list, weigh } = await service(t, sizes!)
  let early = 0
  for (const [orderBy, whole] of [['id', books], ['id desc', books.toReversed()], ['title', books.toSorted((a, b) => a.title === b.title ? (a._id < b._id ? -1 : 1) : a.title < b.title ? -1 : 1)]] as const) {
    for (const pageSize of [3, 150, 1000]) {
      const paged: string[] = []
      let pageToken = ''
      do {
        const page = await list({ orderBy, pageSize, pageToken })
        const ids = page.books.map(({ id }) => id)
        paged.push(...ids)
        pageToken = page.nextPageToken
        if (ids.length === 0 || ids.length > pageSize || weigh(ids) > answerBytesMax) t.fail(`a page of ${ids.length} books and ${weigh(ids)} bytes`)
        if (ids.length === pageSize || pageToken === '') continue
        early++
        const next = whole[paged.length]!._id
        if (weigh([...ids, next]) <= answerBytesMax) t.fail(`a page that ended early had room for ${next}`)
      } while (pageToken !== '')
      t.same(paged, whole.map(({ _id }) => _id), `${orderBy}, ${pageSize} a page`)
    }
  }
  t.ok(early > 10, `${early} pages ended early`)
})

t.test('hits that are large: their pages end early, and together they are all', async t => {
  const { books, get, search } = await service(t, [4_000_000, ...Array(60).fill(80_000), ...Array(60).fill(100)])
  const warnings: string[] = []
  const warned = ({ message }: Error) => { warnings.push(message) }
  process.on('warning', warned)
  t.teardown(() => process.off('warning', warned))
  const [sizes, found]: [number[], string[]] = [[], []]
  let token = ''
  do {
    const { status, body } = await get(`/books:search?query=austen&pageSize=100&readMask=id&pageToken=${token}`)
    t.equal(status, 200, JSON.stringify(body))
    sizes.push(body.books.length)
    found.push(...body.books.map(({ id }: { id: string }) => id))
    token = body.nextPageToken ?? ''
  } while (token !== '')
  t.same(found.sort(), books.map(({ _id }) => _id))
  t.equal(sizes[0], 1, 'one that is larger than an answer may be is a page of its own')
  t.ok(sizes[1]! > 1 && sizes[1]! < 100, sizes.join())
  t.same((await search({ query: 'austen', pageSize: 100 })).books.map(({ id }) => id), [id(0)])
  t.same(warnings.filter(message => message.includes('memory leak')), [], 'many reads for one call are no leak')
})

t.test('a book that is larger than an answer may be is a page of its own', async t => {
  const { get } = await service(t, [100, 100, 5_000_000, 4_000_000, 100])
  const sizes: number[] = []
  let token = ''
  do {
    const { status, body } = await get(`/books?pageToken=${token}`)
    t.equal(status, 200)
    sizes.push(body.books.length)
    token = body.nextPageToken ?? ''
  } while (token !== '')
  t.same(sizes, [2, 1, 1, 1])
  t.match(await get(`/books:batchGet?ids=${id(2)}`), { status: 200, body: { books: [{ id: id(2) }] } })
})

t.test('many books at once: what is more than an answer may have is refused, and says what to do', async t => {
  const { books, get, batch } = await service(t, Array(1000).fill(10_000))
  const ids = books.map(({ _id }) => _id)
  const error = await batch(ids).then(() => undefined, (error: ServiceError) => error)
  t.match(error, tooLarge)
  t.same(error!.metadata.get('error-code'), ['ANSWER_TOO_LARGE'])
  t.match(await get(`/books:batchGet?${ids.map(id => `ids=${id}`).join('&')}`), { status: 413, body: { code: 'ANSWER_TOO_LARGE' } })
  t.same((await batch(ids.slice(0, 300))).books.map(({ id }) => id), ids.slice(0, 300))
  await t.rejects(batch(Array(1000).fill(ids[0]!)), tooLarge, 'also if it is one book a thousand times')
  t.equal((await batch(Array(300).fill(ids[0]!))).books.length, 300)
})

t.test('reads that share a fetch have each what they may have, though together it is too much', async t => {
  const { books, batch, one } = await service(t, Array(600).fill(40_000))
  const ids = books.map(({ _id }) => _id)
  const answers = await Promise.allSettled([...Array.from({ length: 12 }, async (_, n) => await batch(ids.slice(n * 50, n * 50 + 50))), batch(ids.slice(0, 100))])
  t.same(answers.map(({ status }) => status), [...Array(12).fill('fulfilled'), 'rejected'])
  t.match(answers.at(-1), { reason: tooLarge })
  for (const [n, answer] of answers.slice(0, 12).entries()) if (answer.status === 'fulfilled') t.same(answer.value.books.map(({ id }) => id), ids.slice(n * 50, n * 50 + 50))
  // As messages they are 24 MB together, and MongoDB gives 16 MB in one batch.
  const found = await Promise.allSettled(ids.map(async id => (await one(id)).id))
  t.same(found.filter(({ status }) => status === 'rejected').length, 0)
  t.same(found.map(answer => answer.status === 'fulfilled' && answer.value), ids)
})

t.test('a client that does not fetch its pages holds up itself, and nobody else', async t => {
  const { address, list } = await service(t, Array(150).fill(30_000))
  const session = http2.connect(`http://${address}`)
  t.teardown(() => session.destroy())
  const asked = 40 // pages of 3 MB, twice as many as there is room for
  let found = 0
  const streams = Array.from({ length: asked }, () => session.request({ ...listBooks, 'grpc-timeout': '1M' }).once('response', () => { found++ }).on('error', () => {}))
  for (const stream of streams) stream.end(frame(Buffer.from([0x30, 0xe8, 0x07]))) // page_size 1,000
  await until(async () => found >= 3, 'as much to be found as one connection may hold')
  const begun = Date.now()
  t.equal((await list({ pageSize: 2 })).books.length, 2)
  t.ok(Date.now() - begun < 10_000, 'long before the others are given up')
  t.equal(found, 3, 'pages were found for who does not fetch them')
  for (const stream of streams) stream.resume()
  await until(async () => streams.every(({ closed }) => closed), 'all to be answered')
  t.equal(found, asked, 'who fetches again is given the others')
})
