/** The table of the books. */
import { sql } from 'kysely'
import type { Migration } from 'kysely/migration'

export const migrations: Record<string, Migration> = {
  '0001-books': {
    async up (db) {
      await db.schema.createTable('books')
        .addColumn('id', 'uuid', column => column.primaryKey())
        .addColumn('version', 'integer', column => column.notNull())
        .addColumn('withdrawn', 'boolean', column => column.notNull())
        .addColumn('title', 'text', column => column.notNull())
        .addColumn('authors', sql`text[]`, column => column.notNull())
        .addColumn('isbn', 'text')
        .addColumn('published_year', 'integer')
        .addColumn('language', 'text')
        .addColumn('category', 'text')
        .addColumn('pages', 'integer')
        .addColumn('price', 'bigint')
        .addColumn('description', 'text')
        .execute()
      // The ISBN of a withdrawn book is free for another.
      await sql`create unique index books_isbn_unique on books (isbn) where not withdrawn`.execute(db)
    }
  }
}
