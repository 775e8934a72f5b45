/** What can be asked about books. */
import { Type } from 'typebox'
import { booksV1 } from '@bifold/proto'
import { AnswerTooLarge, filters, masks, orders, searchFor, searchQuery, type Queries, type RankedRequest, type Reader, type Where } from '@bifold/cqrs'
import { authorStatistics, message as authorMessage, type AuthorView } from './authors.ts'
import { AuthorNotFound, BookNotFound } from './errors.ts'
import { catalogue, message, type BookView } from './catalogue.ts'
import type { SearchView } from './search.ts'

const Id = Type.String({ format: 'uuid' })
const Author = Type.String({ minLength: 1, maxLength: 200 }) // as long as a book's may be
const Year = Type.Optional(Type.Integer({ minimum: -5000, maximum: 2200 }))
const batchSizeMax = 1000 // 1,000 usual books are 1 MB; large ones meet the bound of an answer first
const pageSizeDefault = 50 // what a screen shows
const hitsDefault = 20 // who does not find it there asks otherwise

const filter = filters<BookView>({
  title: 'text',
  authors: 'list of texts',
  isbn: 'text',
  published_year: 'number',
  language: 'text',
  category: 'text',
  pages: 'number',
  price: 'number'
})
const order = orders<BookView>(['id', 'title', 'published_year'], catalogue.indexes)
const authorOrder = orders<AuthorView>(['id', 'books'], authorStatistics.indexes, 'author')
const mask = masks(booksV1.Book)

/** What requests are made of, beside the standard formats. */
export const formats = { 'book-filter': filter, 'book-order': order, 'book-field': mask, 'author-order': authorOrder, 'search-query': searchQuery }

const PageToken = Type.String({ maxLength: 4096 }) // the longest title, encoded
const ReadMask = Type.Optional(Type.Array(Type.String({ format: 'book-field' }), { maxItems: 50, style: 'form', explode: false, description: 'The fields that are wanted, such as title,authors' })) // each of them, and room for more

export const queries: Queries<typeof booksV1.BookQueryServiceDefinition, { books: BookView, bookSearch: SearchView, authorStatistics: AuthorView }> = {
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
      orderBy: Type.String({ format: 'book-order', maxLength: 100, description: `One of: ${order.offered.join(', ')}` }),
      pageSize: Type.Integer({ minimum: 0, maximum: 1000 }),
      pageToken: PageToken,
      filter: Type.Optional(Type.String({ format: 'book-filter', maxLength: 2000, description: 'AIP-160, such as authors:"Jane Austen" AND published_year >= 1815' })), // every field with a long value
      readMask: ReadMask
    }),
    async answer ({ orderBy, pageSize, pageToken, readMask, ...asked }, { books }) {
      const { fields, apply } = mask.of(readMask)
      const { items, nextToken } = await books.page({ where: where(asked), order: order.order(orderBy), size: pageSize || pageSizeDefault, token: pageToken, fields })
      return { books: items.map(book => apply(message(book))), nextPageToken: nextToken }
    }
  },
  searchBooks: {
    url: '/books:search',
    summary: 'Search the words of titles and authors',
    input: Type.Object({
      query: Type.String({ format: 'search-query', maxLength: 500, description: 'Words in any script; the last may be the beginning of one' }), // the longest title
      pageSize: Type.Integer({ minimum: 0, maximum: 100 }), // the rank of a book behind these says nothing
      pageToken: PageToken,
      readMask: ReadMask
    }),
    async answer ({ query, pageSize, pageToken, readMask }, { books, bookSearch }) {
      const { hits, nextToken } = await search(books, bookSearch, { ...searchFor(query), size: pageSize || hitsDefault, token: pageToken })
      const { apply } = mask.of(readMask)
      return { books: hits.map(book => apply(message(book))), nextPageToken: nextToken }
    }
  },
  getAuthorStatistics: {
    url: '/books/authors/:author',
    summary: 'Get how many books an author has, in which languages and of which years',
    input: Type.Object({ author: Author }),
    async answer ({ author }, { authorStatistics }) {
      const [found] = await authorStatistics.get([author])
      if (found === undefined || found.books <= 0) throw new AuthorNotFound(author)
      return authorMessage(found)
    }
  },
  listAuthorStatistics: {
    url: '/books/authors',
    summary: 'List the authors of all books, a page at a time',
    input: Type.Object({
      orderBy: Type.String({ format: 'author-order', maxLength: 100, description: `One of: ${authorOrder.offered.join(', ')}` }),
      pageSize: Type.Integer({ minimum: 0, maximum: 1000 }),
      pageToken: PageToken
    }),
    async answer ({ orderBy, pageSize, pageToken }, { authorStatistics }) {
      const { items, nextToken } = await authorStatistics.page({ where: { books: { $gt: 0 } }, order: authorOrder.order(orderBy), size: pageSize || pageSizeDefault, token: pageToken })
      return { authors: items.map(authorMessage), nextPageToken: nextToken }
    }
  },
  watchBooks: {
    url: '/books:watch',
    summary: 'Watch books: as they are, and then each change',
    input: Type.Object({
      author: Type.String({ maxLength: 200 }),
      language: Type.String({ maxLength: 35 }),
      publishedYearMin: Year,
      publishedYearMax: Year,
      resumeToken: Type.String({ maxLength: 4096 }) // one has some 400 characters
    }),
    watch: {
      view: 'books',
      where,
      resumeField: 'resumeToken',
      message: ({ begins, changed, removed, resumeToken }) => ({ snapshotBegins: begins, books: changed.map(message), removedIds: [...removed], resumeToken })
    }
  }
}

/** The books of a page of hits; of large ones fewer, as in a list. */
async function search (books: Reader<BookView>, bookSearch: Reader<SearchView>, request: RankedRequest): Promise<{ hits: BookView[], nextToken: string }> {
  const { ids, nextToken } = await bookSearch.ranked(request)
  if (ids.length === 0) return { hits: [], nextToken }
  try {
    const found = new Map((await books.get(ids)).map(book => [book._id, book]))
    return { hits: ids.flatMap(id => found.get(id) ?? []), nextToken }
  } catch (error) {
    if (!(error instanceof AnswerTooLarge) || ids.length === 1) throw error
    return await search(books, bookSearch, { ...request, size: ids.length >>> 1 })
  }
}

type Asked = Pick<booksV1.ListBooksRequest, 'author' | 'language' | 'publishedYearMin' | 'publishedYearMax'> & { readonly filter?: string | undefined }

function where ({ author, language, publishedYearMin, publishedYearMax, filter: text = '' }: Asked): Where {
  const fields = {
    ...author === '' ? {} : { authors: author },
    ...language === '' ? {} : { language },
    ...years(publishedYearMin, publishedYearMax)
  }
  return text.trim() === '' ? fields : { $and: [fields, filter.where(text)] }
}

function years (min: number | undefined, max: number | undefined) {
  if (min === undefined && max === undefined) return {}
  return { publishedYear: { ...min === undefined ? {} : { $gte: min }, ...max === undefined ? {} : { $lte: max } } }
}
