/** Reads one read model: no more bytes than an answer may have, in the midst of a rebuild too, and only if it is there. */
import { BSON, MongoServerError, type Abortable, type AggregationCursor, type Db, type Document as MongoDocument, type Filter, type FindCursor, type FindOptions } from 'mongodb'
import { ReadModelNotReady } from '@bifold/cqrs'

export interface Found<Document> {
  readonly documents: readonly Weighed<Document>[]
  readonly bytes: number
  /** There are others, for which there was no room. */
  readonly cut: boolean
}

/** A document, and how large it is in MongoDB. */
export interface Weighed<Document> { readonly document: Document, readonly bytes: number }

export interface ReadModel {
  readonly collection: string
  /** The documents of a query, in its order, as many as there is room for in an answer; one at least. Once the signal is given, MongoDB works on it no more: the connection is closed, by which it knows. */
  find<Document> (filter: Filter<MongoDocument>, options: FindOptions & Abortable, maxTimeMs: number): Promise<Found<Document>>
  /** The documents that a pipeline gives, likewise. */
  aggregate<Document> (pipeline: readonly MongoDocument[], options: Abortable, maxTimeMs: number): Promise<Found<Document>>
}

export const answerBytesMax = 3 * 1024 * 1024 // of documents as MongoDB keeps them, which are larger than their messages; a gRPC client takes 4 MB if not told otherwise
const batchSize = 101 // as MongoDB's own first one: 100 KB of usual books; of the largest, 9 MB, and not the 16 MB that a batch may have
const triesMax = 5 // a rebuild disturbs a read once, when it renames its collection, and another rebuild takes longer than a read
const rememberedMs = 1000 // that it is there: whoever asks for what does not exist costs one more question a second
const switchedCodes = new Set<unknown>([43, 175, 237]) // CursorNotFound, QueryPlanKilled, CursorKilled: the collection has been renamed or dropped

type Cursor = FindCursor | AggregationCursor

export function makeReadModel (db: Db, collection: string): ReadModel {
  const stored = db.collection(collection)
  let seen = -Infinity // when it was there
  let asking: Promise<void> | undefined

  const ask = async () => {
    if ((await missing(db, [collection])).length > 0) throw new ReadModelNotReady(collection)
    seen = performance.now()
  }
  /** @throws ReadModelNotReady */
  const makeSure = async () => {
    if (performance.now() - seen > rememberedMs) await (asking ??= ask().finally(() => { asking = undefined }))
  }

  type Open = (options: { batchSize: number, raw: true, maxTimeMS: number }) => Cursor

  const read = async <Document> (open: Open, maxTimeMs: number): Promise<Found<Document>> => {
    const end = performance.now() + maxTimeMs
    let sure = false
    for (let tries = 1; ; tries++) {
      const begun = performance.now()
      try {
        const found = await take<Document>(open({ batchSize, raw: true, maxTimeMS: Math.max(1, Math.ceil(end - begun)) }))
        // Nothing found means something only if the collection was there before it was looked for: it may have been made since.
        if (found.documents.length > 0 || sure || (seen <= begun && begun - seen <= rememberedMs)) return found
        await makeSure()
        sure = true
      } catch (cause) {
        if (!(cause instanceof MongoServerError && switchedCodes.has(cause.code))) throw cause
        if (tries === triesMax) throw Object.assign(new ReadModelNotReady(collection), { cause })
      }
    }
  }

  return {
    collection,
    find: async (filter, options, maxTimeMs) => await read(common => stored.find(filter, { ...common, ...options }), maxTimeMs),
    aggregate: async (pipeline, options, maxTimeMs) => await read(common => stored.aggregate([...pipeline], { ...common, ...options }), maxTimeMs)
  }
}

/** Which of these collections are not there. */
export async function missing (db: Db, collections: readonly string[]): Promise<string[]> {
  const there = await db.listCollections({ name: { $in: collections } }, { nameOnly: true }).toArray()
  return collections.filter(collection => !there.some(({ name }) => name === collection))
}

/** Takes documents as long as there is room; raw ones, which tell their size, and are decoded only if they are taken. */
async function take<Document> (cursor: Cursor): Promise<Found<Document>> {
  const documents: Weighed<Document>[] = []
  let bytes = 0
  for await (const first of cursor) {
    for (const raw of [first, ...cursor.readBufferedDocuments()] as unknown as Uint8Array[]) {
      if (bytes + raw.byteLength > answerBytesMax && documents.length > 0) return { documents, bytes, cut: true } // the loop closes the cursor
      bytes += raw.byteLength
      documents.push({ document: BSON.deserialize(raw) as Document, bytes: raw.byteLength })
    }
  }
  return { documents, bytes, cut: false }
}
