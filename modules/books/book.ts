/** The book: its fields, its events, its state and how the one changes the other. */
import { Type, type Static } from 'typebox'
import { aggregate, event, type EventOf } from '@bifold/cqrs'
import { store } from './store.ts'
import { lines, orNull, text } from './fields.ts'

/** What describes a book. The bounds are wide for real books and keep one request below 64 KiB. */
const fields = {
  title: text({ minLength: 1, maxLength: 500 }), // the longest of the 8,000 shipped titles has 186
  authors: Type.Array(text({ minLength: 1, maxLength: 200 }), { minItems: 1, maxItems: 100 }), // the most are 47, the longest has 47
  isbn: Type.Optional(Type.String({ format: 'isbn', maxLength: 17, description: 'ISBN-13 or ISBN-10, with or without hyphens' })), // 13 digits and 4 hyphens
  publishedYear: Type.Optional(Type.Integer({ minimum: -5000, maximum: 2200, description: 'Negative for years BCE' })), // from the first writing to what is announced
  language: Type.Optional(Type.String({ pattern: '^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$', maxLength: 35, 'x-message': 'must be an ISO 639 code or a locale such as eng or en-US' })), // RFC 5646: 35 is enough
  category: Type.Optional(text({ minLength: 1, maxLength: 100 })),
  pages: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000 })), // the longest known have some 20,000
  price: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000_000, description: 'In minor units, such as cents' })), // ten million euros
  description: Type.Optional(lines({ minLength: 1, maxLength: 10_000 }))
}

export const BookDetails = Type.Object(fields, { additionalProperties: false })
export type BookDetails = Static<typeof BookDetails>

/** The fields that change; null takes an optional field away (RFC 7396, JSON Merge Patch). */
export const BookChanges = Type.Object({
  title: Type.Optional(fields.title),
  authors: Type.Optional(fields.authors),
  isbn: orNull(fields.isbn),
  publishedYear: orNull(fields.publishedYear),
  language: orNull(fields.language),
  category: orNull(fields.category),
  pages: orNull(fields.pages),
  price: orNull(fields.price),
  description: orNull(fields.description)
}, { additionalProperties: false })
export type BookChanges = Static<typeof BookChanges>

export const BookAdded = event('BookAdded', 'insert', BookDetails)
export const BookRevised = event('BookRevised', 'update', BookChanges)
export const BookWithdrawn = event('BookWithdrawn', 'delete', Type.Object({}, { additionalProperties: false }))

export const events = { BookAdded, BookRevised, BookWithdrawn }

export interface Book { readonly status: 'absent' | 'listed' | 'withdrawn', readonly details: BookDetails }

export const book = aggregate<Book, typeof events, BookDetails>({
  name: 'books',
  events,
  initial: { status: 'absent', details: { title: '', authors: [] } },
  evolve: {
    BookAdded: (_, details) => ({ status: 'listed', details }),
    BookRevised: (state, changes) => ({ ...state, details: revised(state.details, changes) }),
    BookWithdrawn: state => ({ ...state, status: 'withdrawn' })
  },
  record: state => state.details,
  recordSchema: BookDetails,
  store
})

export type BookEvent = EventOf<typeof book>

/** The details with the changes made. */
export function revised (details: BookDetails, changes: BookChanges): BookDetails {
  return Object.fromEntries(Object.entries({ ...details, ...changes }).filter(([, value]) => value !== null)) as BookDetails
}
