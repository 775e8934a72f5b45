/** What can be done with a book. */
import { isDeepStrictEqual } from 'node:util'
import { Type } from 'typebox'
import { command } from '@bifold/cqrs'
import { book, revised, type Book, BookAdded, BookChanges, BookDetails, BookRevised, BookWithdrawn } from './book.ts'
import { BookIsWithdrawn, BookNotFound } from './errors.ts'
import { isbn13 } from './fields.ts'

export const addBook = command(book, {
  method: 'POST',
  url: '/books',
  summary: 'Add a book',
  input: BookDetails,
  example: { title: 'Emma', authors: ['Jane Austen'], isbn: '978-0-14-143958-7', publishedYear: 1815, language: 'eng', category: 'Fiction', pages: 474, price: 899 },
  decide: (_, details) => [BookAdded(canonical(details))]
})

export const reviseBook = command(book, {
  method: 'PATCH',
  url: '/books/:id',
  summary: 'Revise a book: the given fields change, null takes one away',
  input: BookChanges,
  example: { price: 799, category: null },
  decide: (state, input, { id }) => {
    const changes = canonical(input)
    return isDeepStrictEqual(revised(listed(state, id), changes), state.details) ? [] : [BookRevised(changes)]
  }
})

export const withdrawBook = command(book, {
  method: 'DELETE',
  url: '/books/:id',
  summary: 'Withdraw a book',
  input: Type.Object({}, { additionalProperties: false }),
  example: {},
  decide: (state, _, { id }) => {
    listed(state, id)
    return [BookWithdrawn({})]
  }
})

function listed ({ status, details }: Book, id: string): BookDetails {
  if (status === 'absent') throw new BookNotFound(id)
  if (status === 'withdrawn') throw new BookIsWithdrawn(id)
  return details
}

function canonical<Fields extends BookChanges> (fields: Fields): Fields {
  return fields.isbn == null ? fields : { ...fields, isbn: isbn13(fields.isbn) }
}
