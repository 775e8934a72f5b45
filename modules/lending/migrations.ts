/** The tables of members and loans. What the rules say is said here once more, for what gets past them. */
import { sql } from 'kysely'
import type { Migration } from 'kysely/migration'

export const members: Record<string, Migration> = {
  '0001-members': {
    async up (db) {
      await db.schema.createTable('members')
        .addColumn('id', 'uuid', column => column.primaryKey())
        .addColumn('version', 'integer', column => column.notNull())
        .addColumn('name', 'text', column => column.notNull())
        .addColumn('suspended', 'boolean', column => column.notNull())
        .addColumn('loans', sql`uuid[]`, column => column.notNull())
        .addCheckConstraint('members_loans_max', sql`cardinality(loans) <= 5`)
        .execute()
    }
  }
}

export const loans: Record<string, Migration> = {
  '0001-loans': {
    async up (db) {
      await db.schema.createTable('loans')
        .addColumn('id', 'uuid', column => column.primaryKey())
        .addColumn('version', 'integer', column => column.notNull())
        .addColumn('member_id', 'uuid', column => column.notNull())
        .addColumn('book_id', 'uuid', column => column.notNull())
        .addColumn('opened_on', 'date', column => column.notNull())
        .addColumn('due_on', 'date', column => column.notNull())
        .addColumn('renewals', 'integer', column => column.notNull())
        .addColumn('recalled_on', 'date')
        .addColumn('returned_on', 'date')
        .addCheckConstraint('loans_renewals_max', sql`renewals between 0 and 2`)
        // Looked at when all is written: a group of commands may save a loan before its member.
        .addForeignKeyConstraint('loans_member', ['member_id'], 'members', ['id'], constraint => constraint.deferrable().initiallyDeferred())
        .addForeignKeyConstraint('loans_book', ['book_id'], 'books', ['id'], constraint => constraint.deferrable().initiallyDeferred())
        .execute()
      await sql`create unique index loans_open_unique on loans (book_id) where returned_on is null`.execute(db)
    }
  }
}
