/** Declares projections: a map from each event to a change of a read model; a missing event does not compile. */

/** One change of one document; only plugins/projections writes it. */
export type Change<View extends Document = Document> =
  | { readonly op: 'insert', readonly id: string, readonly doc: View }
  | { readonly op: 'replace', readonly id: string, readonly doc: View }
  | { readonly op: 'update', readonly id: string, readonly set: Fields<View>, readonly inc: Readonly<Record<string, number>>, readonly unset: readonly string[] }
  | { readonly op: 'remove', readonly id: string }

/** A change of what a projection has noted. */
export type NoteChange<Note extends Document = Document> =
  | { readonly op: 'note', readonly id: string, readonly doc: Note }
  | { readonly op: 'forget', readonly id: string }

/** A document of a read model. One with an aggregate's id and a `version` shows the aggregate at that version. */
export interface Document { readonly _id: string }

/** Some fields of a document; `a.b` is a field within a field, as in MongoDB. */
export type Fields<View> = Partial<View> & { readonly [path: `${string}.${string}`]: unknown }

/** The collection of a read model's notes. */
export const notesName = (collection: string): string => `${collection}.notes`

/** The notes that a handler sees, as the events before it have left them. */
export interface Notes<Note extends Document = Document> {
  /** @throws if the projection's `notes` did not name the id for this event */
  get (id: string): Note | undefined
}

/** An index of a read model's collection: field to direction. */
export type Index = Readonly<Record<string, 1 | -1>>

export interface Projection<Event extends { type: string }, View extends Document, Note extends Document = never> {
  /** The MongoDB collection. */
  readonly collection: string
  /** To be raised when the documents change, 1 if left out: a projector of another version leaves the read model alone until `npm run rebuild` has made it anew. */
  readonly version?: number
  readonly indexes: readonly Index[]
  /** The encoded answer of a point read: stored beside the document when it is written, sent as it is when it is read. */
  readonly message?: (view: View) => Uint8Array
  /**
   * The ids of the notes that an event's handler sees. Notes are documents that only the projection sees and changes, in the same
   * transaction as the read model: what it has to know of earlier events, also of other aggregates. Left out, there are none, and
   * nothing is read.
   */
  readonly notes?: (event: Event) => readonly string[]
  /** For each event of the aggregates that it shows: all of theirs, or none. Those of one aggregate come in order; those of different ones in any order. */
  readonly on: { readonly [Type in Event['type']]: (event: Extract<Event, { type: Type }>, notes: Notes<Note>) => OneOrMany<Change<View> | NoteChange<Note>> }
}

type OneOrMany<T> = T | readonly T[]

/** Any projection, where its types do not matter. */
export interface AnyProjection {
  readonly collection: string
  readonly version?: number
  readonly indexes: readonly Index[]
  readonly message?: (view: never) => Uint8Array
  readonly notes?: (event: never) => readonly string[]
  readonly on: Readonly<Record<string, (event: never, notes: Notes<never>) => OneOrMany<Change | NoteChange>>>
}

/**
 * Declares a projection.
 *
 * @example
 * export const catalogue = projection<BookEvent, BookView>({
 *   collection: 'books', indexes: [{ title: 1 }],
 *   on: {
 *     BookAdded: ({ id, version, record }) => insert({ _id: id, version, ...record }),
 *     BookRevised: ({ id, version, record }) => replace({ _id: id, version, ...record }),
 *     BookWithdrawn: ({ id }) => remove(id)
 *   }
 * })
 */
export function projection<Event extends { type: string }, View extends Document, Note extends Document = never> (definition: Projection<Event, View, Note>): Projection<Event, View, Note> {
  return definition
}

/** A document that is new: cheaper than replace, where the event says that there was none. */
export const insert = <View extends Document>(doc: View): Change<View> => ({ op: 'insert', id: doc._id, doc })

/** A document as a whole, whether it was there or not. */
export const replace = <View extends Document>(doc: View): Change<View> => ({ op: 'replace', id: doc._id, doc })

/** Some fields set, others counted up or down or taken away; the document is made if it is missing. No two paths may overlap. */
export const update = <View extends Document>(id: string, { set, inc = {}, unset = [] }: { set?: Fields<View>, inc?: Record<string, number>, unset?: readonly string[] }): Change<View> =>
  ({ op: 'update', id, set: set ?? {} as Fields<View>, inc, unset })

/** No document. */
export const remove = (id: string): Change<never> => ({ op: 'remove', id })

/** A note as a whole, whether there was one or not. */
export const note = <Note extends Document>(doc: Note): NoteChange<Note> => ({ op: 'note', id: doc._id, doc })

/** No note. */
export const forget = (id: string): NoteChange<never> => ({ op: 'forget', id })
