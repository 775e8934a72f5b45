/** SearchBooks on the 8,000 real books, over gRPC and HTTP, with the read models as the projections make them. */
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { credentials, status } from '@grpc/grpc-js'
import { MongoClient, type Db } from 'mongodb'
import { modules } from '@bifold/modules'
import { booksV1 } from '@bifold/proto'
import { call, emptyReadModels, startApp, stores } from '@bifold/test'

interface Book { title: string, authors: string[] }

const id = (n: number) => `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`
const real = readFileSync(new URL('../../data/books.ndjson', import.meta.url), 'utf8').trim().split('\n').map(line => JSON.parse(line) as Book)
const projections = modules.find(({ name }) => name === 'books')!.projections.filter(({ collection }) => ['books', 'bookSearch'].includes(collection))

async function service (t: Test, books: readonly Book[]) {
  const settings = await stores(t)
  await emptyReadModels(settings)
  const client = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => await client.close())
  const db = client.db()
  for (const { collection, indexes, on } of projections) {
    await db.collection(collection).createIndexes(indexes.map(key => ({ key: { ...key } })))
    const docs = books.map((record, n) => on['BookAdded']!({ id: id(n), version: 1, record, data: record } as never, undefined as never) as unknown as { doc: object })
    await db.collection(collection).insertMany(docs.map(({ doc }) => doc) as never)
  }
  const { app, url } = await startApp(t, 'query', settings)
  const rpc = new booksV1.BookQueryServiceClient(`127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`, credentials.createInsecure())
  t.teardown(() => rpc.close())
  const search = async (request: Partial<booksV1.SearchBooksRequest>) => await call<booksV1.SearchBooksRequest, booksV1.SearchBooksResponse>(rpc.searchBooks.bind(rpc), booksV1.SearchBooksRequest.fromPartial(request))
  const get = async (path: string) => {
    const response = await fetch(`${url}${path}`)
    return { status: response.status, body: await response.json() as any }
  }
  return { db, search, get, titles: async (query: string) => (await search({ query })).books.map(({ title }) => title) }
}

const ofAuthor = (...names: string[]) => real.filter(({ authors }) => names.every(name => authors.includes(name))).map(({ title }) => title).sort()

t.test('the real books are found in every script, the best matches first', async t => {
  const { search, titles } = await service(t, real)
  const first = async (query: string) => (await titles(query))[0]
  t.equal(await first('the hobbit'), 'The Hobbit')
  t.equal(await first('pride prejudice'), 'Pride and Prejudice')
  t.equal(await first('AUSTEN emma'), 'Emma')
  t.equal(await first('harry potter prisoner'), 'Harry Potter and the Prisoner of Azkaban (Harry Potter, #3)')
  t.match((await search({ query: 'it' })).books.slice(0, 2).map(({ title }) => title), ['It', String], 'a whole title before one that has the word')
  t.match((await search({ query: 'mary grandpre' })).books[0]!.authors, ['J.K. Rowling', 'Mary GrandPré'])
  for (const query of ['les misérables', 'Les Miserables', 'LES MISÉRABLES']) t.equal(await first(query), 'Les Misérables', query)

  // By every author with a name that is not in Latin letters: as it is, and as others would write it.
  const names = [...new Set(real.flatMap(({ authors }) => authors))].filter(name => /\p{L}/u.test(name) && !/\p{Script=Latin}/u.test(name))
  t.ok(names.length > 50, `${names.length} names`)
  for (const name of names) {
    const wanted = ofAuthor(name)
    for (const written of [name, name.normalize('NFD'), name.replaceAll('أ', 'ا').replaceAll('ي', 'ی').replaceAll('ک', 'ك').replaceAll('م', 'مـ'), name.toUpperCase()]) {
      const found = new Set((await search({ query: written, pageSize: 100 })).books.map(({ title }) => title))
      if (!wanted.every(title => found.has(title))) t.fail(`${written} finds ${name}`)
    }
  }
  t.same(await titles('أحلام مستغانمى'), await titles('احلام مستغانمي'))
  t.ok((await titles('الاسود')).includes('الأسود يليق بك'))
  t.ok((await titles('ذبیح الله منصوری')).length > 0)
  t.ok((await search({ query: '경숙' })).books.some(({ authors }) => authors.includes('신경숙')), 'a part of a Korean name')
  for (const query of ['村上 春樹', '村上春樹', '上春']) t.ok((await search({ query })).books.some(({ authors }) => authors.includes('村上 春樹')), query)
  t.ok((await titles('セーラームーン')).length > 0, 'a part of a Japanese title')
  t.ok((await search({ query: 'νικος καζαντζακης' })).books.length > 0)
})

t.test('pages together are the whole of what is found, in one order, and the same again', async t => {
  const { db, search } = await service(t, real)
  const whole: string[] = []
  let pageToken = ''
  do {
    const page = await search({ query: 'king', pageSize: 7, pageToken })
    whole.push(...page.books.map(({ id }) => id))
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  t.ok(whole.length > 50, `${whole.length} books`)
  t.equal(new Set(whole).size, whole.length)
  t.same((await search({ query: 'king', pageSize: 100 })).books.map(({ id }) => id), whole.slice(0, 100))
  const { nextPageToken } = await search({ query: 'king', pageSize: 7 })
  await t.rejects(search({ query: 'queen', pageToken: nextPageToken }), { code: status.INVALID_ARGUMENT, details: /page_token/ })
  t.match(await plansOf(db, async () => { for (const query of ['king', 'the king ', 'pride and prej', '王']) await search({ query }) }), [/^IXSCAN/, /^IXSCAN/, /^IXSCAN/, /^IXSCAN/])
})

async function plansOf (db: Db, work: () => Promise<void>): Promise<string[]> {
  await db.command({ profile: 2 })
  await work()
  await db.command({ profile: 0 })
  return (await db.collection('system.profile').find({ ns: `${db.databaseName}.bookSearch`, 'command.aggregate': 'bookSearch' }).toArray()).map(({ planSummary }) => planSummary as string)
}

t.test('over HTTP the same, with what is wrong named', async t => {
  const { get } = await service(t, [{ title: 'Emma', authors: ['Jane Austen'] }, { title: 'Jane Eyre', authors: ['Charlotte Brontë'] }])
  t.strictSame(await get('/books:search?query=jane%20bronte&readMask=title,authors'), { status: 200, body: { books: [{ title: 'Jane Eyre', authors: ['Charlotte Brontë'] }] } })
  t.match((await get('/books:search?query=jane&page_size=1')).body, { books: [{ title: 'Jane Eyre' }], nextPageToken: String }, 'a title counts more than an author')
  t.match(await get('/books:search?query='), { status: 400, body: { errors: [{ path: '/query', message: 'must have a letter or a digit to search for' }] } })
  t.match(await get('/books:search?query=a&pageSize=101&readMask=colour'), { status: 400, body: { errors: [{ path: '/pageSize' }, { path: '/readMask/0', message: /^"colour" is not a field/ }] } })
  for (const query of ['$where', '{"$gt":""}', 'a.*', '^a', 'a\u0000b', '(('.repeat(50) + 'a', '__proto__']) t.equal((await get(`/books:search?query=${encodeURIComponent(query)}`)).status, 200, query)
})

t.test('what the catalogue does not show is left out', async t => {
  const { db, search } = await service(t, [{ title: 'Emma', authors: ['Jane Austen'] }, { title: 'Persuasion', authors: ['Jane Austen'] }])
  await db.collection('books').deleteOne({ title: 'Emma' })
  t.match(await search({ query: 'austen' }), { books: [{ title: 'Persuasion' }], nextPageToken: '' })
})
