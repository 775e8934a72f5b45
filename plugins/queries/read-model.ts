/** Reads one read model: no more bytes than an answer may have, in the midst of a rebuild too. */
import { BSON, MongoServerError, type Db, type Document as MongoDocument, type Filter, type FindCursor, type FindOptions } from 'mongodb'

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
  /** The documents of a query, in its order, as many as there is room for in an answer; one at least. */
  find<Document> (filter: Filter<MongoDocument>, options: FindOptions, maxTimeMs: number): Promise<Found<Document>>
}

export const answerBytesMax = 3 * 1024 * 1024 // of documents as MongoDB keeps them, which are larger than their messages; a gRPC client takes 4 MB if not told otherwise
const batchSize = 101 // as MongoDB's own first one: 100 KB of usual books; of the largest, 9 MB, and not the 16 MB that a batch may have
const triesMax = 5 // a rebuild disturbs a read once, when it renames its collection, and another rebuild takes longer than a read
const switchedCodes = new Set<unknown>([43, 175, 237]) // CursorNotFound, QueryPlanKilled, CursorKilled: the collection has been renamed or dropped

export function makeReadModel (db: Db, collection: string): ReadModel {
  const stored = db.collection(collection)
  return {
    collection,
    async find<Document> (filter: Filter<MongoDocument>, options: FindOptions, maxTimeMs: number) {
      const end = performance.now() + maxTimeMs
      for (let tries = 1; ; tries++) {
        try {
          return await take<Document>(stored.find(filter, { batchSize, ...options, raw: true, maxTimeMS: Math.max(1, Math.ceil(end - performance.now())) }))
        } catch (error) {
          if (!(error instanceof MongoServerError && switchedCodes.has(error.code)) || tries === triesMax) throw error
        }
      }
    }
  }
}

/** Takes documents as long as there is room; raw ones, which tell their size, and are decoded only if they are taken. */
async function take<Document> (cursor: FindCursor): Promise<Found<Document>> {
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
