/** What can be asked about books. */
import { Type } from 'typebox'
import type { booksV1 } from '@bifold/proto'
import type { Order, Queries } from '@bifold/cqrs'
import { BookNotFound } from './errors.ts'
import { message, type BookView } from './catalogue.ts'

const Id = Type.String({ format: 'uuid' })
const Year = Type.Optional(Type.Integer({ minimum: -5000, maximum: 2200 }))
const batchSizeMax = 1000 // 1,000 usual books are 1 MB; large ones meet the bound of an answer first
const pageSizeDefault = 50 // what a screen shows

const orders: Record<string, Order> = {
  '': { _id: 1 },
  id: { _id: 1 },
  'id desc': { _id: -1 },
  title: { title: 1, _id: 1 },
  'title desc': { title: -1, _id: -1 },
  published_year: { publishedYear: 1, _id: 1 },
  'published_year desc': { publishedYear: -1, _id: -1 }
}

export const queries: Queries<typeof booksV1.BookQueryServiceDefinition, { books: BookView }> = {
  getBook: {
    url: '/books/:id',
    summary: 'Get a book',
    input: Type.Object({ id: Id }),
    point: { view: 'books', id: ({ id }) => id.toLowerCase(), missing: ({ id }) => new BookNotFound(id) }
  },
  batchGetBooks: {
    url: '/books:batchGet',
    summary: 'Get up to 1,000 books',
    input: Type.Object({ ids: Type.Array(Id, { minItems: 1, maxItems: batchSizeMax }) }),
    async answer ({ ids }, { books }) {
      const found = new Map((await books.get(ids.map(id => id.toLowerCase()))).map(book => [book._id, book]))
      const asked = ids.map(id => ({ id, book: found.get(id.toLowerCase()) }))
      return {
        books: asked.flatMap(({ book }) => book === undefined ? [] : [message(book)]),
        missingIds: asked.flatMap(({ id, book }) => book === undefined ? [id] : [])
      }
    }
  },
  listBooks: {
    url: '/books',
    summary: 'List books, a page at a time',
    input: Type.Object({
      author: Type.String({ maxLength: 200 }),
      language: Type.String({ maxLength: 35 }),
      publishedYearMin: Year,
      publishedYearMax: Year,
      orderBy: Type.Enum(Object.keys(orders)),
      pageSize: Type.Integer({ minimum: 0, maximum: 1000 }),
      pageToken: Type.String({ maxLength: 4096 }) // the longest title, encoded
    }),
    async answer ({ author, language, publishedYearMin, publishedYearMax, orderBy, pageSize, pageToken }, { books }) {
      const where = {
        ...author === '' ? {} : { authors: author },
        ...language === '' ? {} : { language },
        ...years(publishedYearMin, publishedYearMax)
      }
      const { items, nextToken } = await books.page({ where, order: orders[orderBy]!, size: pageSize || pageSizeDefault, token: pageToken })
      return { books: items.map(message), nextPageToken: nextToken }
    }
  }
}

function years (min: number | undefined, max: number | undefined) {
  if (min === undefined && max === undefined) return {}
  return { publishedYear: { ...min === undefined ? {} : { $gte: min }, ...max === undefined ? {} : { $lte: max } } }
}
