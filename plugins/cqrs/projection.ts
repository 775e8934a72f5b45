/** Declares projections: a map from each event to a change of a read model; a missing event does not compile. */

/** One change of one document; only plugins/projections writes it. */
export type Change<View extends Document = Document> =
  | { readonly op: 'insert', readonly id: string, readonly doc: View }
  | { readonly op: 'replace', readonly id: string, readonly doc: View }
  | { readonly op: 'update', readonly id: string, readonly set: Partial<View>, readonly inc: Readonly<Record<string, number>> }
  | { readonly op: 'remove', readonly id: string }

/** A document of a read model. */
export interface Document { readonly _id: string }

/** An index of a read model's collection: field to direction. */
export type Index = Readonly<Record<string, 1 | -1>>

export interface Projection<Event extends { type: string }, View extends Document> {
  /** The MongoDB collection. */
  readonly collection: string
  /** To be raised when the documents change, 1 if left out: a projector of another version leaves the read model alone until `npm run rebuild` has made it anew. */
  readonly version?: number
  readonly indexes: readonly Index[]
  /** The encoded answer of a point read: stored beside the document when it is written, sent as it is when it is read. */
  readonly message?: (view: View) => Uint8Array
  readonly on: { readonly [Type in Event['type']]: (event: Extract<Event, { type: Type }>) => Change<View> | readonly Change<View>[] }
}

/** Any projection, where its types do not matter. */
export interface AnyProjection {
  readonly collection: string
  readonly version?: number
  readonly indexes: readonly Index[]
  readonly message?: (view: never) => Uint8Array
  readonly on: Readonly<Record<string, (event: never) => Change | readonly Change[]>>
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
export function projection<Event extends { type: string }, View extends Document> (definition: Projection<Event, View>): Projection<Event, View> {
  return definition
}

/** A document that is new: cheaper than replace, where the event says that there was none. */
export const insert = <View extends Document>(doc: View): Change<View> => ({ op: 'insert', id: doc._id, doc })

/** A document as a whole, whether it was there or not. */
export const replace = <View extends Document>(doc: View): Change<View> => ({ op: 'replace', id: doc._id, doc })

/** Some fields set, others counted up or down; the document is made if it is missing. */
export const update = <View extends Document>(id: string, { set = {}, inc = {} }: { set?: Partial<View>, inc?: Record<string, number> }): Change<View> => ({ op: 'update', id, set, inc })

/** No document. */
export const remove = (id: string): Change<never> => ({ op: 'remove', id })
