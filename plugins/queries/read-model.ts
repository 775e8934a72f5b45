/** Reads one read model, in the midst of a rebuild too. */
import { MongoServerError, type Db, type Document as MongoDocument, type Filter, type FindOptions } from 'mongodb'

export interface ReadModel {
  readonly collection: string
  /** The documents of a query, in its order. */
  find<Document> (filter: Filter<MongoDocument>, options: FindOptions, maxTimeMs: number): Promise<Document[]>
}

const batchSize = 1001 // the longest page in one batch: the fewer there are, the less is done again
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
          return await stored.find(filter, { batchSize, ...options, maxTimeMS: Math.max(1, Math.ceil(end - performance.now())) }).toArray() as Document[]
        } catch (error) {
          if (!(error instanceof MongoServerError && switchedCodes.has(error.code)) || tries === triesMax) throw error
        }
      }
    }
  }
}
