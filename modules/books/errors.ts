/** How a command for a book can be refused. */
import { createError } from '@bifold/cqrs'

export const BookNotFound = createError<[id: string]>('BOOKS_NOT_FOUND', "Book '%s' does not exist", 404)
export const AuthorNotFound = createError<[author: string]>('BOOKS_AUTHOR_NOT_FOUND', "There is no book of '%s'", 404)
export const BookIsWithdrawn = createError<[id: string]>('BOOKS_WITHDRAWN', "Book '%s' was withdrawn", 409)
export const IsbnTaken = createError<[isbn: string]>('BOOKS_ISBN_TAKEN', "Another book has the ISBN '%s'", 409, { field: '/isbn' })
