/** A small domain as it was in three releases, for the tests of old events: one author became several, then the words were counted. */
import { sql, type Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'
import { Type, type TObject } from 'typebox'
import { aggregate, command, defineModule, event, projection, remove, replace, type EventTypes, type Module, type Store } from '@bifold/cqrs'

export interface Note { readonly author: string, readonly text: string, readonly struck: boolean }

const text = Type.String()
const closed = { additionalProperties: false }

/** What each release wrote, of an event and of the record after it. */
const shapes = {
  1: Type.Object({ author: text, text }, closed),
  2: Type.Object({ authors: Type.Array(text), text }, closed),
  3: Type.Object({ authors: Type.Array(text), text, words: Type.Integer() }, closed)
}
export type Release = keyof typeof shapes

const wordsIn = (text: string) => text.split(' ').length
const severalAuthors = ({ author, ...rest }: { author: string }) => ({ ...rest, authors: [author] })
const countedWords = (note: { text: string }) => ({ ...note, words: wordsIn(note.text) })

/** The steps, one after the other; a note that was struck has no data. */
const both = { 1: { data: severalAuthors, record: severalAuthors }, 2: { data: countedWords, record: countedWords } }
const ofRecord = { 1: { record: severalAuthors }, 2: { record: countedWords } }

export const written = (release: Release, { author, text }: Pick<Note, 'author' | 'text'>): Record<string, unknown> =>
  release === 1 ? { author, text } : release === 2 ? { authors: [author], text } : { authors: [author], text, words: wordsIn(text) }

function eventsOf (release: Release): EventTypes {
  const upTo = (steps: Record<number, object>) => ({ version: release, upcast: Object.fromEntries(Object.entries(steps).filter(([from]) => Number(from) < release)) }) as never
  return {
    NoteWritten: event('NoteWritten', 'insert', shapes[release], upTo(both)),
    NoteRewritten: event('NoteRewritten', 'update', shapes[release], upTo(both)),
    NoteStruck: event('NoteStruck', 'delete', Type.Object({}, closed), upTo(ofRecord))
  }
}

const migrations: Record<string, Migration> = {
  '0001-notes': {
    async up (db) { await sql`create table notes (id uuid primary key, version integer not null, author text not null, text text not null, struck boolean not null)`.execute(db) }
  }
}

interface Row extends Note { id: string, version: number }
const columns = (db: Kysely<never>) => (db as unknown as Kysely<{ notes: Row }>).selectFrom('notes').selectAll()
const stateOf = ({ id, version, ...state }: Row) => ({ id, version, state })

const store: Store<Note> = {
  load: async (tx, ids) => (await columns(tx).where(sql<boolean>`id = any(${ids}::uuid[])`).orderBy('id').forUpdate().execute()).map(stateOf),
  save: (tx, states) => sql`insert into notes select * from json_populate_recordset(null::notes, ${JSON.stringify(states.map(({ state, ...rest }) => ({ ...rest, ...state })))}::json)
    on conflict (id) do update set version = excluded.version, author = excluded.author, text = excluded.text, struck = excluded.struck`.compile(tx),
  page: async (db, after = '00000000-0000-0000-0000-000000000000', limit) => (await columns(db).where('struck', '=', false).where('id', '>', after).orderBy('id').limit(limit).execute()).map(stateOf),
  unique: {},
  migrations
}

/** The domain as it was in a release. */
export function notes (release: Release): Module {
  const events = eventsOf(release)
  const { NoteWritten, NoteRewritten, NoteStruck } = events as unknown as Record<string, (data: unknown) => never>
  const changed = (state: Note, data: { author?: string, authors?: string[], text: string }): Note => ({ ...state, author: data.author ?? data.authors![0]!, text: data.text })
  const note = aggregate<Note, EventTypes, object>({
    name: 'notes',
    events,
    initial: { author: '', text: '', struck: false },
    evolve: { NoteWritten: changed, NoteRewritten: changed, NoteStruck: (state: Note) => ({ ...state, struck: true }) } as never,
    record: state => written(release, state),
    recordSchema: shapes[release],
    store
  })
  const input: TObject = Type.Object({ author: text, text }, closed)
  const example = { author: 'Ada', text: 'on engines' }
  const document = ({ id, version, record }: { id: string, version: number, record: object }) => replace({ _id: id, version, ...record } as never)
  return defineModule({
    name: 'notes',
    aggregates: [note],
    commands: {
      writeNote: command(note, { method: 'POST', url: '/notes', summary: 'Write a note', input, example, decide: (_, input) => [NoteWritten!(written(release, input as never))] }),
      rewriteNote: command(note, { method: 'PATCH', url: '/notes/:id', summary: 'Write it again', input, example, decide: (_, input) => [NoteRewritten!(written(release, input as never))] }),
      strikeNote: command(note, { method: 'DELETE', url: '/notes/:id', summary: 'Strike it', input: Type.Object({}, closed), example: {}, decide: () => [NoteStruck!({})] })
    },
    projections: [projection<any, any>({ collection: 'notes', indexes: [], on: { NoteWritten: document, NoteRewritten: document, NoteStruck: ({ id }: { id: string }) => remove(id) } })],
    service: { name: 'NoteQueryService', fullName: 'notes.v1.NoteQueryService', methods: {} },
    queries: {},
    errors: {}
  })
}
