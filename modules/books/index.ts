/** The book domain: the table of contents. */
import { booksV1 } from '@bifold/proto'
import { defineModule } from '@bifold/cqrs'
import { authorStatistics } from './authors.ts'
import { book } from './book.ts'
import { catalogue } from './catalogue.ts'
import * as commands from './commands.ts'
import * as errors from './errors.ts'
import { isbn } from './fields.ts'
import { formats, queries } from './queries.ts'
import { bookSearch } from './search.ts'

export const books = defineModule({
  name: 'books',
  aggregates: [book],
  commands,
  projections: [catalogue, bookSearch, authorStatistics],
  service: booksV1.BookQueryServiceDefinition,
  queries,
  errors,
  formats: { isbn, ...formats }
})
