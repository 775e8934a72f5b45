/** What the split is compared with: a plain Fastify app that reads and writes one PostgreSQL table. */
import { Kysely, PostgresDialect, sql } from 'kysely'
import pg from 'pg'
import type { FastifyInstance } from 'fastify'
import { clean } from '@bifold/commands/clean'
import { newId } from '@bifold/commands/ids'
import { compiler } from '@bifold/cqrs'
import { modules } from '@bifold/modules'
import { serve } from '@bifold/service'
import { config } from './config.ts'

const connections = 20 // more at once were slower on two cores

export interface Book { title: string, authors: string[], publishedYear?: number, language?: string }

/** How the app keeps its books. */
export interface Storage {
  insert (db: Kysely<any>, id: string, book: Book): Promise<unknown>
  find (db: Kysely<any>, id: string): Promise<unknown>
}

const oneTable: Storage = {
  insert: async (db, id, { title, authors, publishedYear, language }) => await db.insertInto('books').values({ id, version: 1, withdrawn: false, title, authors, published_year: publishedYear, language }).execute(),
  find: async (db, id) => await db.selectFrom('books').selectAll().where('id', '=', id).executeTakeFirst()
}

/** The authors in a table of their own: a read joins them, and counts the books of each. */
const joined: Storage = {
  async insert (db, id, { authors, ...book }) {
    await db.transaction().execute(async tx => {
      await oneTable.insert(tx, id, { ...book, authors: [] })
      await sql`insert into authors (name) select unnest(${authors}::text[]) on conflict do nothing`.execute(tx)
      await sql`insert into book_authors (book, author, place) select ${id}::uuid, name, place from unnest(${authors}::text[]) with ordinality as given (name, place) on conflict do nothing`.execute(tx)
    })
  },
  find: async (db, id) => (await sql`
    select books.*, (select json_agg(json_build_object('name', author, 'books', (select count(*) from book_authors as others where others.author = book_authors.author)) order by place)
      from book_authors where book = books.id) as authors
    from books where id = ${id}`.execute(db)).rows[0]
}

const settings = config()
const storage = settings.STORAGE === 'joined' ? joined : oneTable

async function monolith (app: FastifyInstance) {
  const db = new Kysely<any>({ dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: settings.POSTGRES_URL, max: connections }) }) })
  app.addHook('onClose', async () => { await db.destroy() })
  if (storage === joined) {
    await sql`create table if not exists authors (name text primary key)`.execute(db)
    await sql`create table if not exists book_authors (book uuid references books, author text references authors, place integer, primary key (book, author))`.execute(db)
    await sql`create index if not exists book_authors_author on book_authors (author)`.execute(db)
  }
  const [{ commands, formats }] = modules as [typeof modules[number]]
  const compile = compiler(formats)
  app.route<{ Body: Book }>({
    method: 'POST',
    url: '/books',
    schema: { body: commands['addBook']!.input },
    validatorCompiler: ({ schema }) => compile(schema as object),
    preValidation: async request => { request.body = clean(request.body) as Book },
    async handler ({ body }, reply) {
      const id = newId()
      await storage.insert(db, id, body)
      return await reply.code(201).send({ id, version: 1 })
    }
  })
  app.get<{ Params: { id: string } }>('/books/:id', async ({ params: { id } }, reply) => await storage.find(db, id) ?? reply.code(404).send())
}

await serve(monolith, settings, { name: 'monolith', host: settings.HOST, port: settings.PORT, logLevel: settings.LOG_LEVEL })
