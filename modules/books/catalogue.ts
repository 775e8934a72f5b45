/** The read model: each listed book as one document. */
import { booksV1 } from '@bifold/proto'
import { insert, projection, remove, replace } from '@bifold/cqrs'
import type { BookDetails, BookEvent } from './book.ts'

export interface BookView extends BookDetails {
  readonly _id: string
  readonly version: number
}

export const catalogue = projection<BookEvent, BookView>({
  collection: 'books',
  // Each ordering of ListBooks, and each filter beside the default order, by the id.
  indexes: [
    { title: 1, _id: 1 },
    { publishedYear: 1, _id: 1 },
    { authors: 1, _id: 1 },
    { language: 1, _id: 1 }
  ],
  message: view => booksV1.Book.encode(message(view)).finish(),
  on: {
    BookAdded: ({ id, version, record }) => insert({ _id: id, version, ...record }),
    BookRevised: ({ id, version, record }) => replace({ _id: id, version, ...record }),
    BookWithdrawn: ({ id }) => remove(id)
  }
})

/** The book as the service answers it. */
export const message = ({ _id: id, ...book }: BookView): booksV1.Book => booksV1.Book.fromPartial({ id, ...book })
