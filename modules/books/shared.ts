/** What other domains may rely on: the book, which they see and record nothing on, and its events. */
import type { Visible } from '@bifold/cqrs'
import { book as own, type Book } from './book.ts'

export const book: Visible<Book> = own
export type { BookEvent } from './book.ts'
