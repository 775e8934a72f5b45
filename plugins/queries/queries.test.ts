/** The query service against the real MongoDB, over gRPC and HTTP. */
import t, { type Test } from 'tap'
import { setTimeout } from 'node:timers/promises'
import { Client, credentials, Metadata, status, type ServiceError } from '@grpc/grpc-js'
import { MongoClient } from 'mongodb'
import { booksV1 } from '@bifold/proto'
import { mongoOf } from '@bifold/mongo'
import { call, emptyReadModels, startApp, stores } from '@bifold/test'
import { makeReadModel } from './read-model.ts'
import { makeReader } from './reader.ts'
import { makeTurns } from './turns.ts'

const id = (n: number) => `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`
const nobody = id(999_999)

async function service (t: Test, books: object[]) {
  const settings = await stores(t)
  await emptyReadModels(settings)
  const client = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => await client.close())
  const collection = client.db().collection('books')
  if (books.length > 0) await collection.insertMany(books as never)
  const { app, url } = await startApp(t, 'query', settings)
  const address = `127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`
  const rpc = new booksV1.BookQueryServiceClient(address, credentials.createInsecure())
  t.teardown(() => rpc.close())
  const get = async (path: string) => {
    const response = await fetch(`${url}${path}`)
    return { status: response.status, body: await response.json() as any }
  }
  const list = async (request: Partial<booksV1.ListBooksRequest>): Promise<booksV1.ListBooksResponse> =>
    await call(rpc.listBooks.bind(rpc), booksV1.ListBooksRequest.fromPartial(request))
  const batch = async (ids: string[]): Promise<booksV1.BatchGetBooksResponse> => await call(rpc.batchGetBooks.bind(rpc), { ids })
  return { app, collection, address, rpc, get, list, batch }
}

const shelf = [
  { _id: id(1), version: 1, title: 'Emma', authors: ['Jane Austen'], publishedYear: 1815, language: 'eng', price: 899 },
  { _id: id(2), version: 1, title: 'Gilgamesh', authors: ['Anonymous'], publishedYear: -1750 },
  { _id: id(3), version: 4, title: 'Good Omens', authors: ['Terry Pratchett', 'Neil Gaiman'], publishedYear: 1990, language: 'eng' },
  { _id: id(4), version: 1, title: 'Sprachlos', authors: ['Niemand'] },
  { _id: id(5), version: 1, title: 'Vergessen', authors: ['Niemand'], language: 'ger' },
  { _id: id(6), version: 2, title: 'Persuasion', authors: ['Jane Austen'], publishedYear: 1817, language: 'eng' }
]

t.test('one book, on gRPC and HTTP the same', async t => {
  const { rpc, get } = await service(t, shelf)
  const book = { id: id(1), version: 1, title: 'Emma', authors: ['Jane Austen'], publishedYear: 1815, language: 'eng', price: 899 }
  t.match(await call(rpc.getBook.bind(rpc), { id: id(1) }), book)
  t.strictSame(await get(`/books/${id(1)}`), { status: 200, body: book })
  const error = await call(rpc.getBook.bind(rpc), { id: nobody }).then(() => undefined, (error: ServiceError) => error)
  t.match(error, { code: status.NOT_FOUND, details: `Book '${nobody}' does not exist` })
  t.same(error!.metadata.get('error-code'), ['BOOKS_NOT_FOUND'])
  t.match(await get(`/books/${nobody}`), { status: 404, body: { code: 'BOOKS_NOT_FOUND' } })
})

t.test('many books at once, in the order asked for, and which of them are missing', async t => {
  const { batch, get } = await service(t, shelf)
  const answer = await batch([id(3), nobody, id(1)])
  t.same(answer.books.map(book => book.id), [id(3), id(1)])
  t.same(answer.missingIds, [nobody])
  const thousand = await batch(Array.from({ length: 1000 }, (_, n) => id(n)))
  t.equal(thousand.books.length, 6)
  t.match(await get(`/books:batchGet?ids=${id(3)}&ids=${nobody}`), { status: 200, body: { books: [{ id: id(3) }], missingIds: [nobody] } })
  t.match(await get(`/books:batchGet?ids=${id(3)}`), { status: 200, body: { books: [{ id: id(3) }] } })
})

t.test('filters and orders', async t => {
  const { list, get } = await service(t, shelf)
  const titles = async (request: Partial<booksV1.ListBooksRequest>) => (await list(request)).books.map(({ title }) => title)
  t.same(await titles({ author: 'Jane Austen' }), ['Emma', 'Persuasion'])
  t.same(await titles({ author: 'Neil Gaiman' }), ['Good Omens'], 'any of the authors')
  t.same(await titles({ language: 'ger' }), ['Vergessen'])
  t.same(await titles({ publishedYearMin: 1815, publishedYearMax: 1900 }), ['Emma', 'Persuasion'])
  t.same(await titles({ publishedYearMax: 0 }), ['Gilgamesh'])
  t.same(await titles({ author: 'Jane Austen', orderBy: 'published_year desc' }), ['Persuasion', 'Emma'])
  t.same(await titles({ orderBy: 'title' }), ['Emma', 'Gilgamesh', 'Good Omens', 'Persuasion', 'Sprachlos', 'Vergessen'])
  t.same(await titles({ orderBy: 'id desc' }), ['Persuasion', 'Vergessen', 'Sprachlos', 'Good Omens', 'Gilgamesh', 'Emma'])
  t.match(await get('/books?author=Jane%20Austen&order_by=published_year%20desc&page_size=1'), { status: 200, body: { books: [{ title: 'Persuasion' }], nextPageToken: String } })
  t.same((await get('/books?publishedYearMin=&publishedYearMax=&pageSize=%20')).body, (await get('/books')).body, "a form's empty field says nothing")
  t.match(await get('/books?pageSize=x&colour=red'), { status: 400, body: { errors: [{ path: '/colour' }] } })
  t.match(await get('/books?pageSize=x&orderBy=y'), { status: 400, body: { errors: [{ path: '/orderBy' }, { path: '/pageSize' }] } })
})

t.test('a filter, an order and a mask as people write them, on gRPC and HTTP the same', async t => {
  const { list, get, collection } = await service(t, shelf)
  await collection.updateOne({ _id: id(3) } as never, { $set: { category: 'Fantasy "and" fun', pages: 288, isbn: '9780060853983' } })
  const titles: Record<string, string[]> = {
    'authors:"Jane Austen" AND published_year > 1815': ['Persuasion'],
    'authors:"Neil Gaiman" OR authors:Niemand': ['Good Omens', 'Sprachlos', 'Vergessen'],
    'NOT language = eng': ['Gilgamesh', 'Sprachlos', 'Vergessen'],
    'language != eng AND published_year:*': ['Gilgamesh'],
    'published_year < 0': ['Gilgamesh'],
    'category = "Fantasy \\"and\\" fun"': ['Good Omens'],
    'pages >= 288 AND isbn = 9780060853983': ['Good Omens'],
    'title >= "P" AND title < "T"': ['Persuasion', 'Sprachlos'],
    'price <= 899': ['Emma'],
    'title = "{$ne: 1}"': []
  }
  for (const [filter, wanted] of Object.entries(titles)) {
    t.same((await list({ filter, orderBy: 'title' })).books.map(({ title }) => title), wanted, filter)
    t.same((await get(`/books?filter=${encodeURIComponent(filter)}&orderBy=title&readMask=title`)).body.books ?? [], wanted.map(title => ({ title })), `${filter}, over HTTP`)
  }
  t.same((await list({ filter: 'language = eng', author: 'Jane Austen', publishedYearMin: 1816 })).books.map(({ title }) => title), ['Persuasion'], 'together with the other fields')
  t.match(await list({ pageSize: 1, orderBy: 'published_year desc', readMask: ['title', 'published_year'] }), { books: [{ id: '', version: 0, title: 'Good Omens', authors: [], publishedYear: 1990 }] })
  t.strictSame((await get('/books?read_mask=publishedYear,authors&filter=title%3DEmma')).body, { books: [{ authors: ['Jane Austen'], publishedYear: 1815 }] })
  const first = await get('/books?pageSize=4&orderBy=title&readMask=id')
  t.strictSame((await get(`/books?pageSize=4&orderBy=title&readMask=id&pageToken=${first.body.nextPageToken}`)).body, { books: [{ id: id(4) }, { id: id(5) }] }, 'the order goes by a field that is not wanted')
})

t.test('what is wrong with a filter, an order or a mask is said with the field', async t => {
  const { list, get } = await service(t, shelf)
  const refused = (details: RegExp) => ({ code: status.INVALID_ARGUMENT, details })
  await t.rejects(list({ filter: 'title = ' }), refused(/filter at character 9: expected a value after =, found the end/))
  await t.rejects(list({ filter: `${'('.repeat(1000)}` }), refused(/filter at character 22: more than 20/))
  await t.rejects(list({ filter: `title = ${'a'.repeat(2000)}` }), refused(/filter must NOT have more than 2000 characters/))
  await t.rejects(list({ orderBy: 'price' }), refused(/order_by must be one of id, id desc, title, title desc, published_year, published_year desc/))
  await t.rejects(list({ readMask: ['title', 'authors.name'] }), refused(/read_mask.{1,3} "authors.name" is not a field of the answer; these are: id, version, title/))
  await t.rejects(list({ pageSize: -1 }), refused(/page_size must be >= 0/))
  t.match(await get('/books?filter=colour%3Dred&order_by=colour&readMask=title,colour&pageSize=0'), { status: 400, body: { errors: [{ path: '/orderBy' }, { path: '/filter', message: /^at character 1: colour is not a field to filter by/ }, { path: '/readMask/1' }] } }, 'all at once')
  const { nextPageToken } = await list({ filter: 'language = eng', pageSize: 1 })
  await t.rejects(list({ filter: 'language = ger', pageToken: nextPageToken }), refused(/page_token/))
  t.match((await get('/docs/json')).body.paths['/books'].get.parameters.filter(({ name }: { name: string }) => ['filter', 'orderBy', 'readMask'].includes(name)), [{ schema: { type: 'string' } }, { schema: { type: 'string' } }, { style: 'form', explode: false }].map(() => ({ in: 'query', description: String })))
})

t.test('pages together are the whole list, in every order, whatever fields are missing', async t => {
  const { list } = await service(t, [...shelf, { ...shelf[0], _id: id(7) }, { ...shelf[0], _id: id(8) }])
  for (const orderBy of ['', 'id', 'id desc', 'title', 'title desc', 'published_year', 'published_year desc']) {
    const whole = (await list({ orderBy })).books.map(book => book.id)
    for (const pageSize of [1, 2, 4]) { // pages that end between equal values, and at them
      const paged: string[] = []
      let pageToken = ''
      do {
        const page = await list({ orderBy, pageSize, pageToken })
        paged.push(...page.books.map(book => book.id))
        pageToken = page.nextPageToken
      } while (pageToken !== '')
      t.same(paged, whole, `${orderBy}, ${pageSize} a page`)
    }
    t.equal(new Set(whole).size, 8)
  }
})

t.test('pages stay right while books come and go', async t => {
  const { list, collection } = await service(t, shelf)
  const first = await list({ orderBy: 'title', pageSize: 3 })
  t.same(first.books.map(({ title }) => title), ['Emma', 'Gilgamesh', 'Good Omens'])
  await collection.insertMany([{ _id: id(7), version: 1, title: 'Aaa', authors: ['x'] }, { _id: id(8), version: 1, title: 'Rrr', authors: ['x'] }] as never)
  await collection.deleteOne({ _id: id(3) } as never) // the last of the page before
  const second = await list({ orderBy: 'title', pageSize: 10, pageToken: first.nextPageToken })
  t.same(second.books.map(({ title }) => title), ['Persuasion', 'Rrr', 'Sprachlos', 'Vergessen'], 'none twice, none left out')
})

t.test('a page token of another list, or a forged one, is refused with the field named', async t => {
  const { list } = await service(t, shelf)
  const { nextPageToken } = await list({ orderBy: 'title', pageSize: 1 })
  const refused = { code: status.INVALID_ARGUMENT, details: /page_token/ }
  await t.rejects(list({ orderBy: 'title', author: 'Jane Austen', pageToken: nextPageToken }), refused)
  await t.rejects(list({ orderBy: 'id', pageToken: nextPageToken }), refused)
  await t.rejects(list({ orderBy: 'title', pageToken: 'e30' }), refused)
  const [list_] = JSON.parse(Buffer.from(nextPageToken, 'base64url').toString())
  const operator = Buffer.from(JSON.stringify([list_, { $gt: '' }, 'x'])).toString('base64url')
  await t.rejects(list({ orderBy: 'title', pageToken: operator }), refused, 'no operator comes in by a token')
})

t.test('a deadline that has passed is DEADLINE_EXCEEDED, and so is one that passes while MongoDB works', async t => {
  const { rpc } = await service(t, shelf)
  const until = async (deadline: number) => await new Promise((resolve, reject) => rpc.getBook({ id: id(1) }, new Metadata(), { deadline }, (error, book) => error === null ? resolve(book) : reject(error)))
  await t.rejects(until(Date.now() - 1000), { code: status.DEADLINE_EXCEEDED })
  await t.resolves(until(Date.now() + 5000))
})

t.test('the standard health and reflection services answer', async t => {
  const { address } = await service(t, [])
  const client = new Client(address, credentials.createInsecure())
  t.teardown(() => client.close())
  const check = async () => await new Promise<Buffer>((resolve, reject) => client.makeUnaryRequest('/grpc.health.v1.Health/Check', (bytes: Buffer) => bytes, (bytes: Buffer) => bytes, Buffer.alloc(0), (error, reply) => error === null ? resolve(reply!) : reject(error)))
  for (let n = 0; n < 100 && (await check())[1] !== 1; n++) await setTimeout(20)
  t.same(await check(), Buffer.from([8, 1]), 'SERVING')
  for (const version of ['v1', 'v1alpha']) {
    const call = client.makeBidiStreamRequest(`/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`, (bytes: Buffer) => bytes, (bytes: Buffer) => bytes)
    const answer = new Promise<Buffer>((resolve, reject) => call.on('data', resolve).on('error', reject))
    call.write(Buffer.from([0x3a, 0])) // list_services
    t.match((await answer).toString('latin1'), /books\.v1\.BookQueryService/)
    const described = new Promise<Buffer>(resolve => call.once('data', resolve))
    call.write(Buffer.from('\x22\x19books.v1.ListBooksRequest')) // file_containing_symbol
    t.match((await described).toString('latin1'), /page_size/, 'the fields have the names of the .proto file')
    call.end()
  }
})

t.test('while MongoDB is away: UNAVAILABLE and 503, not ready with the reason, and no crash', async t => {
  const settings = { ...await stores(t), MONGO_URL: 'mongodb://127.0.0.1:1/bifold' }
  const { app, url } = await startApp(t, 'query', settings, { ready: false })
  const rpc = new booksV1.BookQueryServiceClient(`127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`, credentials.createInsecure())
  t.teardown(() => rpc.close())
  await t.rejects(call(rpc.getBook.bind(rpc), { id: id(1) }), { code: status.UNAVAILABLE, details: 'MongoDB does not answer' })
  t.equal((await fetch(`${url}/books/${id(1)}`)).status, 503)
  t.match(await (await fetch(`${url}/health/ready`)).json(), { status: 'not ready', checks: { mongo: { ok: false } } })
})

t.test('slow lists do not hold up point reads', async t => {
  const { app, rpc, get, list } = await service(t, shelf)
  let listed = 0
  const turns = { pages: makeTurns({ readsMax: 30, bytesMax: Infinity, connectionBytesMax: Infinity }), ids: undefined as never }
  // A list as the service makes it, on its own connections, of a filter that takes its time: more of them than there are connections.
  const slow = Array.from({ length: 30 }, async () => {
    await makeReader({ model: makeReadModel(mongoOf(app), 'books'), indexes: [], turns, points: undefined as never, freshness: undefined as never }, { deadline: Date.now() + 20_000, tokens: [], connection: () => undefined, gone: () => false, onEnd () {} })
      .page({ where: { $where: 'sleep(500) || true' }, order: { _id: 1 }, size: 10, token: '' })
    listed++
  })
  await setTimeout(100) // they are on their way
  const another = list({}).then(() => listed)
  for (let n = 0; n < 20; n++) {
    t.match(await call(rpc.getBook.bind(rpc), { id: id(1) }), { title: 'Emma' })
    t.match(await get(`/books/${id(3)}`), { status: 200, body: { title: 'Good Omens' } })
  }
  t.equal(listed, 0, 'each was answered before the first list')
  t.ok(await another >= 10, 'while another list waited for a connection')
  await Promise.all(slow)
})
