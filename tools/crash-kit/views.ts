/** The read models that are no aggregate's own: what PostgreSQL makes of them, and how a document shows it. */
import { sql } from 'kysely'
import { searchable } from '@bifold/cqrs'
import type { Db } from '@bifold/postgres'
import type { Row } from '../compare.ts'

export const views: readonly { readonly name: string, readonly rows: (db: Db) => AsyncGenerator<Row, void, void>, readonly shown?: (document: Row) => Row }[] = [{
  name: 'lendingCatalogue',
  rows: db => rows(db, sql`
    select books.id, books.version, title, authors, count(loans.id) as loans, count(loans.id) filter (where returned_on is null) = 0 as available,
      min(due_on) filter (where returned_on is null)::text as due_on
    from books left join loans on book_id = books.id where not withdrawn group by books.id order by books.id`)
}, {
  name: 'bookSearch',
  async * rows (db) {
    for await (const { title, authors, ...row } of rows(db, sql`select id, version, title, authors from books where not withdrawn order by id`)) {
      yield { ...row, ...searchable(title as string, authors as string[]) }
    }
  }
}, {
  name: 'memberPages',
  rows: db => rows(db, sql`
    select id, version, name, suspended, (
      select coalesce(jsonb_object_agg(loans.id, jsonb_strip_nulls(jsonb_build_object(
        'bookId', book_id, 'title', title, 'openedOn', opened_on, 'dueOn', due_on, 'renewals', renewals, 'recalledOn', recalled_on
      ))), '{}') from loans join books on books.id = book_id where member_id = members.id and returned_on is null
    ) as loans
    from members order by id`),
  shown: ({ loans = {}, ...page }) => ({ loans, ...page }) // who has no loans may have the field or not
}, {
  name: 'authorStatistics', // also of those whose name no book has any more
  rows: db => rows(db, sql`
    with listed as (select * from books where not withdrawn)
    select author as id, count(listed.id) as books,
      (select jsonb_object_agg(language, n) from (select language, count(*) as n from listed where author = any(authors) and language is not null group by language) as counted) as languages,
      (select jsonb_object_agg(published_year, n) from (select published_year, count(*) as n from listed where author = any(authors) and published_year is not null group by published_year) as counted) as years
    from (select distinct json_array_elements_text(coalesce(value->'event', value->'data')->'authors') collate "C" as author from events where aggregate = 'books') as named
      left join listed on author = any(authors)
    group by author order by author`),
  shown: ({ languages = {}, years = {}, ...author }) => ({ ...author, ...counted({ languages, years }) })
}]

/** Without what is counted no more. */
function counted (counts: Row): Row {
  const some = Object.entries(counts).map(([name, count]) => [name, Object.fromEntries(Object.entries(count as Row).filter(([, books]) => books !== 0))] as const)
  return Object.fromEntries(some.filter(([, count]) => Object.keys(count).length > 0))
}

async function * rows (db: Db, statement: ReturnType<typeof sql>): AsyncGenerator<Row, void, void> {
  for (const { id, ...fields } of (await statement.execute(db)).rows as (Row & { id: string })[]) {
    yield { _id: id, ...Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null)) } // what is not there is no field of a document
  }
}
