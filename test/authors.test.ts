/** AuthorStatistics are exact: held against SQL over PostgreSQL, with many writers at once, crashes, repeated messages and a rebuild. */
import { setTimeout } from 'node:timers/promises'
import { execa } from 'execa'
import { sql } from 'kysely'
import t from 'tap'
import { status } from '@grpc/grpc-js'
import { booksV1 } from '@bifold/proto'
import { call, kafkaFor, pipeline, readTopic, until, type Pipeline } from './pipeline.ts'

const authors = ['Jane Austen', 'نجيب محفوظ', '村上 春樹', 'A. $et.Author', '__proto__', 'x'.repeat(200)]
const languages = ['eng', 'ara', 'en-US', undefined]
const years = [1815, 1816, 1990, -1750, undefined]

async function list ({ books }: Pipeline, orderBy = ''): Promise<booksV1.AuthorStatistics[]> {
  const found: booksV1.AuthorStatistics[] = []
  let pageToken = ''
  do {
    const page = await call<booksV1.ListAuthorStatisticsRequest, booksV1.ListAuthorStatisticsResponse>(books.listAuthorStatistics.bind(books), { orderBy, pageSize: 2, pageToken })
    found.push(...page.authors)
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  return found
}

/** The same from the write side, reckoned anew. */
async function reckoned ({ db }: Pipeline): Promise<booksV1.AuthorStatistics[]> {
  const { rows } = await sql<{ author: string, books: number, firstYear: number | null, lastYear: number | null, languages: { language: string, books: number }[] | null }>`
    with named as (select distinct id, unnest(authors) as author, language, published_year as year from books where not withdrawn),
    spoken as (select author, language, count(*)::int as books from named where language is not null group by author, language)
    select author, count(*)::int as books, min(year) as "firstYear", max(year) as "lastYear",
      (select json_agg(json_build_object('language', language, 'books', books) order by books desc, language collate "C") from spoken where spoken.author = named.author) as languages
    from named group by author order by author collate "C"`.execute(db)
  return rows.map(({ firstYear, lastYear, languages, ...row }) => booksV1.AuthorStatistics.fromPartial({ ...row, languages: languages ?? [], ...firstYear === null ? {} : { firstYear, lastYear: lastYear! } }))
}

const same = async (line: Pipeline) => {
  const [found, wanted] = [await list(line), await reckoned(line)]
  return JSON.stringify(found) === JSON.stringify(wanted) && found
}

/** Adds, revises and withdraws until it is ended; every writer writes about the same authors. */
function writing (line: Pipeline, seed: number) {
  const end = new AbortController()
  let n = seed
  const of = <T>(values: readonly T[]): T => {
    n = (n * 48271) % 2147483647 // Lehmer's generator
    return values[n % values.length]!
  }
  const book = () => {
    const [language, publishedYear] = [of(languages), of(years)]
    return { title: 'A book', authors: [of(authors), of(authors)], ...language === undefined ? {} : { language }, ...publishedYear === undefined ? {} : { publishedYear } }
  }
  const done = (async () => {
    while (!end.signal.aborted) {
      const { body: { id } } = await line.post('/books', book())
      await line.send('PATCH', `/books/${id}`, { price: 1 })
      await line.send('PATCH', `/books/${id}`, { ...book(), language: of(languages) ?? null, publishedYear: of(years) ?? null })
      if (of([1, 2, 3]) === 1) await line.send('DELETE', `/books/${id}`)
    }
  })()
  return async () => {
    end.abort()
    await done
  }
}

t.test('with many writers, a projector that ends in the midst, all messages once more, and a rebuild', async t => {
  const line = await pipeline(t)
  const ends = [1, 2, 3, 4].map(seed => writing(line, seed))
  for (let round = 0; round < 3; round++) {
    await setTimeout(700)
    await line.restart('projector')
  }
  await Promise.all(ends.map(async end => await end()))
  const found = await until(async () => await same(line), 'the statistics to be those of PostgreSQL')
  t.equal(found.length, authors.length, 'every author')
  t.ok(found.reduce((sum, { books }) => sum + books, 0) > 30)

  // All of it once more, as from a relay that has forgotten what it has sent.
  const messages = await readTopic(line.settings)
  const producer = kafkaFor(line.settings).producer()
  await producer.connect()
  const sent = await producer.send({ topic: line.settings.EVENTS_TOPIC, messages: messages.map(({ key, partition, value, headers }) => ({ key, partition, value: JSON.stringify(value), headers })) })
  await producer.disconnect()
  await until(async () => {
    const at = new Map((await line.mongo.collection('checkpoints').find({ projection: 'authorStatistics' }).toArray()).map(({ partition, offset }) => [partition, offset as number]))
    return sent.every(({ partition, baseOffset }) => at.get(partition)! > Number(baseOffset))
  }, 'the repeated messages to be passed')
  t.same(await list(line), found, 'each event counts once')

  const { exitCode, all } = await execa('node', ['../tools/rebuild.ts', 'authorStatistics'], { cwd: import.meta.dirname, env: Object.fromEntries(Object.entries(line.settings).map(([name, value]) => [name, String(value)])), reject: false, all: true })
  t.equal(exitCode, 0, String(all))
  t.same(await list(line), found, 'rebuilt, the same')
  await line.post('/books', { title: 'After the rebuild', authors: ['Jane Austen', 'New'] })
  await until(async () => (await same(line)) && (await list(line)).some(({ author }) => author === 'New'), 'the statistics to go on')
})

t.test('one author, in the orders that there are, and one whose last book is gone', async t => {
  const line = await pipeline(t)
  const add = async (book: object) => (await line.post('/books', { title: 'A book', ...book })).body.id as string
  const only = await add({ authors: ['Only', 'Only'], language: 'eng', publishedYear: 1815 })
  await add({ authors: ['Two', 'نجيب محفوظ'], language: 'ara', publishedYear: 1990 })
  const last = await add({ authors: ['Two'], language: 'eng', publishedYear: 2001 })
  await until(async () => await same(line))
  const get = async (author: string) => await line.get(`/books/authors/${encodeURIComponent(author)}`)
  t.strictSame((await get('Two')).body, { author: 'Two', books: 2, languages: [{ language: 'ara', books: 1 }, { language: 'eng', books: 1 }], firstYear: 1990, lastYear: 2001 })
  t.match((await get('نجيب محفوظ')).body, { books: 1, firstYear: 1990 })
  t.match(await call(line.books.getAuthorStatistics.bind(line.books), { author: 'Only' }), { author: 'Only', books: 1, languages: [{ language: 'eng', books: 1 }] }, 'named twice, counted once')
  t.same((await list(line, 'books desc')).map(({ author }) => author), ['Two', 'نجيب محفوظ', 'Only'])
  t.same((await line.get('/books/authors?orderBy=author%20desc&pageSize=1')).body.authors.map(({ author }: { author: string }) => author), ['نجيب محفوظ'])
  t.match(await line.get('/books/authors?orderBy=language'), { status: 400, body: { errors: [{ path: '/orderBy', message: 'must be one of author, author desc, books, books desc' }] } })

  await line.send('PATCH', `/books/${last}`, { publishedYear: null, language: null })
  await line.send('DELETE', `/books/${only}`)
  await until(async () => await same(line))
  t.match((await get('Two')).body, { books: 2, firstYear: 1990, lastYear: 1990 }, 'the last year is the one before')
  t.match(await get('Only'), { status: 404, body: { code: 'BOOKS_AUTHOR_NOT_FOUND' } })
  await t.rejects(call(line.books.getAuthorStatistics.bind(line.books), { author: 'Only' }), { code: status.NOT_FOUND })
  t.match((await get('x'.repeat(200))).status, 404)
})
