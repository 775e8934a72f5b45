/**
 * What a projection has noted, and which version of each aggregate it has taken in: documents of a companion collection, written
 * in the transactions of the read model. A note that is read is written too, so that of two transactions that need the same one
 * the later begins again: a handler never decides on what another is changing.
 */
import type { AnyBulkWriteOperation, ClientSession, Db } from 'mongodb'
import { notesName, type AnyProjection, type Change, type Document, type Envelope, type NoteChange, type Notes } from '@bifold/cqrs'

/** In MongoDB; the id is whatever the projection notes something for, or an aggregate's. */
export interface Noted {
  readonly _id: string
  readonly note?: Document
  /** Of the aggregate with this id, where no document of the read model shows it. */
  readonly version?: number
  /** How often it was read and left as it was. */
  readonly locks?: number
}

/** The notes of a stretch while its events are applied. */
export interface Notebook {
  /** Those that one event may see. */
  of (event: Envelope): Notes<never>
  /** Takes over the changes of an event that was applied. */
  change (changes: readonly NoteChange[]): void
  /** What has changed, and what was only read. */
  written (): ReadonlyMap<string, NotedChange>
  /** True for what was looked for and is not there: it can be inserted, which is cheaper than to find that out again. */
  isNew (id: string): boolean
}

type NotedChange = 'locked' | { readonly note: Document | undefined }

export const notes = (db: Db, { collection }: Pick<AnyProjection, 'collection'>) => db.collection<Noted>(notesName(collection))

/** Reads the notes that these events need, within a transaction. */
export async function openNotes (db: Db, session: ClientSession, projection: AnyProjection, events: readonly Envelope[]): Promise<Notebook> {
  const named = new Map(projection.notes === undefined ? [] : events.map(event => [event, namedBy(projection.notes!, event)]))
  const ids = new Set([...named.values()].flatMap(({ ids }) => ids))
  const found = ids.size === 0 ? [] : await notes(db, projection).find({ _id: { $in: [...ids] } }, { session }).toArray()
  const absent = new Set(ids)
  for (const { _id } of found) absent.delete(_id)
  const now = new Map(found.map(({ _id, note }): [string, Document | undefined] => [_id, note]))
  const written = new Map<string, NotedChange>()
  return {
    of (event) {
      const { ids = [], fault } = named.get(event) ?? {}
      if (fault !== undefined) throw fault
      return {
        get (id) {
          if (!ids.includes(id)) throw new Error(`the projection ${projection.collection} does not say that ${event.type} sees the note '${id}'`)
          if (!written.has(id)) written.set(id, 'locked')
          return now.get(id) as never
        }
      }
    },
    change (changes) {
      for (const change of changes) {
        const note = change.op === 'note' ? change.doc : undefined
        now.set(change.id, note)
        written.set(change.id, { note })
      }
    },
    written: () => written,
    isNew: id => absent.has(id)
  }
}

/** The ids of the notes that an event sees. What is thrown for it is of this event, and not of those beside it: it is thrown when the event's turn comes. */
function namedBy (notes: NonNullable<AnyProjection['notes']>, event: Envelope): { readonly ids: readonly string[], readonly fault?: unknown } {
  try {
    return { ids: notes(event as never) }
  } catch (fault) {
    return { ids: [], fault }
  }
}

/** The versions that no document of the read model shows after these changes. */
export function unshown (versions: ReadonlyMap<string, number>, changes: readonly Change[]): Map<string, number> {
  const hidden = new Map(versions)
  for (const change of changes) {
    const fields = change.op === 'insert' || change.op === 'replace' ? change.doc : change.op === 'update' ? change.set : {}
    if ((fields as { version?: number }).version === versions.get(change.id)) hidden.delete(change.id)
  }
  return hidden
}

/** Writes what is in the notebook, and the versions, within a transaction. */
export async function writeNotes (db: Db, session: ClientSession, projection: AnyProjection, notebook: Notebook, versions: ReadonlyMap<string, number>): Promise<void> {
  const written = notebook.written()
  // What is new first: one command for each kind.
  const ids = [...new Set([...written.keys(), ...versions.keys()])].sort((a, b) => Number(notebook.isNew(b)) - Number(notebook.isNew(a)))
  if (ids.length === 0) return
  const operations = ids.map((_id): AnyBulkWriteOperation<Noted> => {
    const [change, version] = [written.get(_id), versions.get(_id)]
    const note = typeof change === 'object' ? change.note : undefined
    const set = { ...note === undefined ? {} : { note }, ...version === undefined ? {} : { version } }
    const locks = change === 'locked' ? { locks: 1 } : {}
    if (notebook.isNew(_id)) return { insertOne: { document: { _id, ...set, ...locks } } }
    const unset = typeof change === 'object' && note === undefined ? { note: 1 as const } : {}
    return { updateOne: { filter: { _id }, update: { $set: set, $unset: unset, $inc: locks }, upsert: true } }
  })
  await notes(db, projection).bulkWrite(operations, { ordered: true, session })
}
