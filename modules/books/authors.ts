/** The read model of authors: how many listed books each has, in which languages and of which years. */
import { booksV1 } from '@bifold/proto'
import { forget, note, projection, update, type Change } from '@bifold/cqrs'
import type { BookDetails, BookEvent } from './book.ts'

/** Counters only, since those add up in whichever order the books' partitions come; one may be 0. */
export interface AuthorView {
  readonly _id: string
  readonly books: number
  readonly languages?: Readonly<Record<string, number>>
  readonly years?: Readonly<Record<string, number>>
}

/** What a book counts for, noted so that it can be taken back. */
interface Counted {
  readonly _id: string
  readonly authors: readonly string[]
  readonly language?: string
  readonly publishedYear?: number
}

export const authorStatistics = projection<BookEvent, AuthorView, Counted>({
  collection: 'authorStatistics',
  indexes: [{ books: 1, _id: 1 }],
  notes: ({ id }) => [id],
  on: {
    BookAdded ({ id, record }) {
      const now = counted(id, record)
      return [note(now), ...count(now, 1)]
    },
    BookRevised ({ id, record }, notes) {
      const [before, now] = [notes.get(id), counted(id, record)]
      return isSame(before, now) ? [] : [note(now), ...count(before, -1), ...count(now, 1)]
    },
    BookWithdrawn: ({ id }, notes) => [forget(id), ...count(notes.get(id), -1)]
  }
})

const counted = (id: string, { authors, language, publishedYear }: BookDetails): Counted =>
  ({ _id: id, authors: [...new Set(authors)], ...language === undefined ? {} : { language }, ...publishedYear === undefined ? {} : { publishedYear } })

const isSame = (before: Counted | undefined, now: Counted): boolean => before !== undefined && before.language === now.language && before.publishedYear === now.publishedYear &&
  before.authors.length === now.authors.length && before.authors.every((author, at) => author === now.authors[at])

/** Neither a language nor a year has a dot or a dollar sign, which MongoDB would take for more than a name. */
function count (book: Counted | undefined, by: 1 | -1): Change<AuthorView>[] {
  if (book === undefined) return []
  const { authors, language, publishedYear } = book
  const inc = { books: by, ...language === undefined ? {} : { [`languages.${language}`]: by }, ...publishedYear === undefined ? {} : { [`years.${publishedYear}`]: by } }
  return authors.map(author => update<AuthorView>(author, { inc }))
}

/** The author as the service answers. */
export function message ({ _id: author, books, languages = {}, years = {} }: AuthorView): booksV1.AuthorStatistics {
  const some = (counts: Readonly<Record<string, number>>) => Object.entries(counts).filter(([, books]) => books > 0)
  const known = some(years).map(([year]) => Number(year)).sort((a, b) => a - b)
  return booksV1.AuthorStatistics.fromPartial({
    author,
    books,
    languages: some(languages).map(([language, books]) => ({ language, books })).sort((a, b) => b.books - a.books || (a.language < b.language ? -1 : 1)),
    ...known.length === 0 ? {} : { firstYear: known[0]!, lastYear: known.at(-1)! }
  })
}
