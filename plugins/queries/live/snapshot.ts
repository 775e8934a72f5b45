/** Reads the documents of a filter as they all were at one time, however long that takes. */
import { setTimeout } from 'node:timers/promises'
import { BSON, MongoServerError, type Db, type Document, type Timestamp } from 'mongodb'
import { ReadModelNotReady, Unavailable } from '@bifold/cqrs'
import { missing } from '../read-model.ts'

/** Some documents of it, and the time. */
export interface Part { readonly documents: readonly Document[], readonly time: Timestamp }

/** The read model was replaced or dropped, or what has changed takes too long to find: it is to be read anew. */
export class Replaced extends Error {}

const bytesMax = 256 * 1024 // of a part: well below what a client takes in one message
const batchSize = 101 // as MongoDB's own first one
const timeMs = 60_000 // MongoDB keeps the past for 5 min if not told otherwise
const againMs = 50 // where MongoDB does not yet know what another of its members has told
const triesMax = 40
const replacedCodes = new Set<unknown>([43, 175, 237, 239, 246]) // CursorNotFound, QueryPlanKilled, CursorKilled, SnapshotTooOld, SnapshotUnavailable

/**
 * @param gone the snapshot must not lie before it
 * @throws Replaced, ReadModelNotReady, Unavailable
 */
export async function * readSnapshot (db: Db, collection: string, where: Readonly<Record<string, unknown>>, gone: Timestamp, signal: AbortSignal): AsyncGenerator<Part, void, void> {
  for (let tries = 1; ; tries++) {
    const session = db.client.startSession({ snapshot: true })
    try {
      const cursor = db.collection(collection).find(where, { session, readConcern: { level: 'snapshot' }, projection: { _message: 0 }, batchSize, maxTimeMS: timeMs, raw: true, signal })
      const some = await cursor.hasNext()
      if (!some && (await missing(db, [collection])).length > 0) throw new ReadModelNotReady(collection)
      const time = (session as unknown as { snapshotTime?: Timestamp }).snapshotTime // none if the collection was not there, which it may be by now
      if (time === undefined || time.lessThan(gone)) {
        await cursor.close()
        if (tries === triesMax) throw new Unavailable('MongoDB')
        await setTimeout(againMs)
        continue
      }
      let [documents, bytes]: [Document[], number] = [[], 0]
      for await (const raw of cursor as unknown as AsyncIterable<Uint8Array>) {
        documents.push(BSON.deserialize(raw))
        bytes += raw.byteLength
        if (bytes < bytesMax) continue
        yield { documents, time }
        ;[documents, bytes] = [[], 0]
      }
      yield { documents, time } // also if there is none: it is whole
      return
    } catch (error) {
      if (error instanceof MongoServerError && replacedCodes.has(error.code)) throw new Replaced(error.message, { cause: error })
      throw error
    } finally {
      await session.endSession()
    }
  }
}
