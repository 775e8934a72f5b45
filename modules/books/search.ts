/** The read model of SearchBooks: the terms of each listed book's title and authors. */
import { insert, projection, remove, replace, searchable, update, type Searchable } from '@bifold/cqrs'
import type { BookDetails, BookEvent } from './book.ts'

export interface SearchView extends Searchable {
  readonly _id: string
  readonly version: number
}

// Beside the catalogue: whoever changes how words are cut builds this one anew, and a revision of anything else leaves the index alone.
export const bookSearch = projection<BookEvent, SearchView>({
  collection: 'bookSearch',
  indexes: [{ terms: 1 }],
  on: {
    BookAdded: ({ id, version, record }) => insert(found(id, version, record)),
    BookRevised: ({ id, version, data, record }) => data.title === undefined && data.authors === undefined ? update<SearchView>(id, { set: { version } }) : replace(found(id, version, record)),
    BookWithdrawn: ({ id }) => remove(id)
  }
})

const found = (id: string, version: number, { title, authors }: BookDetails): SearchView => ({ _id: id, version, ...searchable(title, authors) })
