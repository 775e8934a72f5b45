/** The books that the load is made of: the 8,000 real ones that the project ships. */
import { readFileSync } from 'node:fs'

export interface BookInput { title: string, authors: string[], isbn?: string, publishedYear?: number, language?: string }

const all: BookInput[] = readFileSync(new URL('../data/books.ndjson', import.meta.url), 'utf8').trim().split('\n').map(line => JSON.parse(line))

/** The first books of the file, from the beginning again where it ends; without their ISBNs, which could be added only once. */
export function sample (count: number): Omit<BookInput, 'isbn'>[] {
  return Array.from({ length: count }, (_, index) => {
    const { isbn: _isbn, ...book } = all[index % all.length]!
    return book
  })
}
