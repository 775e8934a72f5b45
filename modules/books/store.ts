/** Books in PostgreSQL: one row each, withdrawn ones included. */
import { sql, type Kysely } from 'kysely'
import type { Store, Versioned } from '@bifold/cqrs'
import type { Book, BookDetails } from './book.ts'
import { IsbnTaken } from './errors.ts'
import { migrations } from './migrations.ts'

interface BookRow {
  id: string
  version: number
  withdrawn: boolean
  title: string
  authors: string[]
  isbn: string | null
  publishedYear: number | null
  language: string | null
  category: string | null
  pages: number | null
  price: number | null
  description: string | null
}

interface Tables { books: BookRow }

export const store: Store<Book> = {
  async load (tx, ids, { lock }) {
    const rows = await (tx as unknown as Kysely<Tables>).selectFrom('books').selectAll()
      .where(sql<boolean>`id = any(${ids}::uuid[])`).orderBy('id').$if(lock, query => query.forUpdate()).execute()
    return rows.map(fromRow)
  },

  // One JSON parameter instead of twelve for each row: the statement's text is the same for any number of rows.
  // By ISBN: the books are locked, but their new ISBNs may be wanted by another gateway too, and so in one order.
  save: (tx, states) => sql`
    insert into books (id, version, withdrawn, title, authors, isbn, published_year, language, category, pages, price, description)
    select id, version, withdrawn, title, authors, isbn, published_year, language, category, pages, price, description
    from json_populate_recordset(null::books, ${JSON.stringify(states.map(toRow))}::json) order by isbn
    on conflict (id) do update set
      version = excluded.version, withdrawn = excluded.withdrawn, title = excluded.title, authors = excluded.authors,
      isbn = excluded.isbn, published_year = excluded.published_year, language = excluded.language,
      category = excluded.category, pages = excluded.pages, price = excluded.price, description = excluded.description
  `.compile(tx),

  async page (db, after, limit) {
    const rows = await (db as unknown as Kysely<Tables>).selectFrom('books').selectAll().where('withdrawn', '=', false)
      .$if(after !== undefined, query => query.where('id', '>', after!)).orderBy('id').limit(limit).execute()
    return rows.map(fromRow)
  },

  unique: {
    books_isbn_unique: {
      value: ({ status, details }) => status === 'listed' ? details.isbn : undefined,
      taken: isbn => new IsbnTaken(isbn)
    }
  },
  migrations
}

const toRow = ({ id, version, state: { status, details: { publishedYear, ...details } } }: Versioned<Book>) =>
  ({ ...details, id, version, withdrawn: status === 'withdrawn', published_year: publishedYear })

function fromRow ({ id, version, withdrawn, ...columns }: BookRow): Versioned<Book> {
  const details = Object.fromEntries(Object.entries(columns).filter(([, value]) => value !== null)) as unknown as BookDetails
  return { id, version, state: { status: withdrawn ? 'withdrawn' : 'listed', details } }
}
