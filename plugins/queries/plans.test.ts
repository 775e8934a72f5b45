/** How MongoDB answers lists and searches, by its own profiler: along the order's index, never by a scan of the collection, and never sorted in memory. */
import t, { type Test } from 'tap'
import { credentials } from '@grpc/grpc-js'
import { MongoClient, type Db } from 'mongodb'
import { modules } from '@bifold/modules'
import { booksV1, lendingV1 } from '@bifold/proto'
import { call, emptyReadModels, startApp, stores } from '@bifold/test'

const count = 400
const id = (n: number) => `019a0000-0000-7000-8000-${String(n).padStart(12, '0')}`
// Few of an author, a language and a year: what MongoDB would look for by themselves, and sort.
const shelf = Array.from({ length: count }, (_, n) => ({
  _id: id(n),
  version: 1,
  title: `Title ${n * 7919 % count}`,
  authors: [`Author ${n % 50}`, `Author ${n % 7 + 50}`],
  ...n % 5 === 0 ? {} : { publishedYear: 1900 + n % 40, language: `l${n % 20}`, isbn: String(n), category: `c${n % 20}`, pages: n % 20 + 1, price: n % 20 }
}))

interface Plan { readonly planSummary: string, readonly keysExamined: number, readonly docsExamined: number, readonly hasSortStage?: boolean }

async function service (t: Test) {
  const settings = await stores(t)
  await emptyReadModels(settings)
  const client = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => await client.close())
  const db = client.db()
  for (const { collection, indexes } of modules.find(({ name }) => name === 'books')!.projections) await db.collection(collection).createIndexes(indexes.map(key => ({ key: { ...key } })))
  await db.collection('books').insertMany(shelf as never)
  const { app } = await startApp(t, 'query', settings)
  const target = `127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`
  const rpc = new booksV1.BookQueryServiceClient(target, credentials.createInsecure())
  t.teardown(() => rpc.close())
  await db.command({ profile: 2 })
  t.teardown(async () => await db.command({ profile: 0 }))
  const list = async (request: Partial<booksV1.ListBooksRequest>) => await call<booksV1.ListBooksRequest, booksV1.ListBooksResponse>(rpc.listBooks.bind(rpc), booksV1.ListBooksRequest.fromPartial(request))
  return { db, list, target }
}

/** The plan of the last list. */
async function lastPlan (db: Db, collection = 'books'): Promise<Plan> {
  const [last] = await db.collection('system.profile').find<Plan>({ op: 'query', ns: `${db.databaseName}.${collection}`, 'command.limit': { $exists: true } }).sort({ $natural: -1 }).limit(1).toArray()
  return last!
}

const filtersOf: Record<string, Partial<booksV1.ListBooksRequest>> = {
  'no filter': {},
  author: { author: 'Author 3' },
  language: { language: 'l3' },
  'published_year_min and _max': { publishedYearMin: 1910, publishedYearMax: 1915 },
  ...Object.fromEntries(['title = "Title 3"', 'title > "Title 3"', 'authors:"Author 3"', 'isbn = "7"', 'isbn:*', 'published_year = 1911', 'published_year != 1911', 'language = l3', 'language = l3 OR language = l4', 'NOT language = l3', 'category = c3', 'pages < 5', 'price >= 7', 'authors:"Author 3" AND language = l3'].map(filter => [filter, { filter }]))
}

t.test('every order, either way, on each page and with each filter, is walked along an index', async t => {
  const { db, list } = await service(t)
  for (const orderBy of ['id', 'id desc', 'title', 'title desc', 'published_year', 'published_year desc']) {
    for (const [name, filter] of Object.entries(filtersOf)) {
      let [pageToken, pages, found] = ['', 0, 0]
      do {
        const page = await list({ ...filter, orderBy, pageSize: 150, pageToken })
        const { planSummary, hasSortStage, keysExamined, docsExamined } = await lastPlan(db)
        const where = `${orderBy}, ${name}, page ${++pages}`
        if (!planSummary.startsWith('IXSCAN') || hasSortStage === true) t.fail(where, { planSummary, hasSortStage })
        if (keysExamined > count * 2 + 10 || docsExamined > count * 2) t.fail(`${where}: the index is walked once`, { planSummary, keysExamined, docsExamined })
        found += page.books.length
        pageToken = page.nextPageToken
      } while (pageToken !== '')
      t.ok(found > 0, `${orderBy}, ${name}: ${found} books in ${pages} pages`)
    }
  }
})

t.test('a page far behind begins where the one before ended, in every order', async t => {
  const { db, list } = await service(t)
  for (const orderBy of ['id', 'id desc', 'title', 'title desc', 'published_year', 'published_year desc']) {
    const { nextPageToken } = await list({ orderBy, pageSize: 350 })
    t.equal((await list({ orderBy, pageSize: 10, pageToken: nextPageToken })).books.length, 10)
    const { keysExamined, docsExamined } = await lastPlan(db)
    t.ok(keysExamined <= 40 && docsExamined <= 40, `${orderBy}: ${keysExamined} keys and ${docsExamined} documents for 11`) // a year has ten books
  }
})

t.test('a list by author in the default order looks at no other books', async t => {
  const { db, list } = await service(t)
  for (const filter of [{ author: 'Author 3' }, { filter: 'authors:"Author 3"' }, { filter: 'price >= 0 AND authors:"Author 3"' }]) {
    const { books } = await list(filter)
    const { planSummary, docsExamined } = await lastPlan(db)
    t.equal(planSummary, 'IXSCAN { authors: 1, _id: 1 }')
    t.ok(books.length > 0 && docsExamined <= 8, `${docsExamined} of ${count} books`)
  }
})

t.test('what is lent, or not, is looked for by that, though it is no text', async t => {
  const { db, target } = await service(t)
  const { indexes, collection } = modules.flatMap(({ projections }) => projections).find(({ collection }) => collection === 'lendingCatalogue')!
  await db.collection(collection).createIndexes(indexes.map(key => ({ key: { ...key } })))
  await db.collection(collection).insertMany(shelf.map(({ _id, title, authors }, n) => ({ _id, version: 1, title, authors, available: n % 100 !== 0, loans: 1 })) as never)
  const rpc = new lendingV1.LendingQueryServiceClient(target, credentials.createInsecure())
  t.teardown(() => rpc.close())
  const { entries } = await call<lendingV1.ListCatalogueEntriesRequest, lendingV1.ListCatalogueEntriesResponse>(rpc.listCatalogueEntries.bind(rpc), lendingV1.ListCatalogueEntriesRequest.fromPartial({ availability: 'lent' }))
  const { planSummary, docsExamined } = await lastPlan(db, collection)
  t.equal(planSummary, 'IXSCAN { available: 1, title: 1, _id: 1 }')
  t.equal(entries.length, 4)
  t.equal(docsExamined, 4)
})

t.test('without an index that a list is walked along, it is slow and right', async t => {
  const { db, list } = await service(t)
  await db.collection('books').dropIndex('title_1__id_1')
  const { books } = await list({ orderBy: 'title', pageSize: 3 })
  t.same(books.map(({ title }) => title), ['Title 0', 'Title 1', 'Title 10'])
})
