/** The changes of one read model in their order, from MongoDB's change stream; a rebuild that puts another in its place is one of them. */
import { BSON, MongoServerError, type ChangeStream, type ChangeStreamDocument, type Db, type Document, type Timestamp } from 'mongodb'
import { InvalidResumeToken, ResumeTokenExpired } from '@bifold/cqrs'
import { Replaced } from './snapshot.ts'
import type { Position } from './token.ts'

/** One change of one document, or of the whole read model. */
export interface Step {
  readonly token: Position
  readonly time: Timestamp
  /** The document's; undefined if another collection is in its place now, or none. */
  readonly id: string | undefined
  /** The document as it is now; undefined if it is gone. */
  readonly after: Document | undefined
  /** There was no such document before. */
  readonly isNew: boolean
  /** The document was read when the change was, and may have changed again. */
  readonly isLater: boolean
  /** Of the document. */
  readonly bytes: number
}

export interface Changes {
  /** The next change; undefined if none has come for a while. */
  next (): Promise<Step | undefined>
  /** Everything up to it has been given. */
  readonly position: Position
  close (): Promise<void>
}

const batchSize = 1000 // of usual documents 1 MB, which is read in one go when there is much
const openMs = 60_000 // to go through what others have written since: as for a snapshot, which is then the shorter way

/** Opens them, from now on or after a place. Rejects with InvalidResumeToken or ResumeTokenExpired, or Replaced if it takes too long, or as a read does. */
export async function openChanges (db: Db, collection: string, { after, waitMs, maxTimeMS = openMs }: { after?: Position, waitMs: number, maxTimeMS?: number }): Promise<Changes> {
  // Of the database: that of a collection ends when a rebuild renames it. What is written under another name is passed over.
  const stream: ChangeStream = db.watch([
    { $match: { $or: [{ 'ns.coll': collection, operationType: { $in: ['insert', 'update', 'replace', 'delete', 'drop'] } }, { 'to.coll': collection, operationType: 'rename' }] } },
    { $unset: ['fullDocument._message', 'updateDescription'] }
  ], { fullDocument: 'updateLookup', batchSize, maxTimeMS, maxAwaitTimeMS: waitMs, ...after === undefined ? {} : { resumeAfter: { _data: after } } })
  const read = async () => await guarded(async () => await stream.tryNext(), stream) as ChangeStreamDocument | null
  let ahead: Promise<ChangeStreamDocument | null> | undefined = read()
  ahead.catch(() => {}) // whoever takes it hears of it
  // It is open when MongoDB has told from where; where nothing happens, the first change is long in coming.
  await Promise.race([ahead, new Promise(resolve => stream.once('resumeTokenChanged', resolve))])
  let position: Position = after ?? positionOf(stream)
  return {
    get position () { return position },
    async next () {
      const change = await (ahead ?? read())
      ahead = undefined
      position = positionOf(stream)
      return change === null ? undefined : stepOf(change)
    },
    close: async () => { await stream.close() }
  }
}

// Of the driver, which moves it on when there is nothing, too.
const positionOf = (stream: ChangeStream): Position => (stream.resumeToken as { _data: Position })._data

const lateCode = 50 // MaxTimeMSExpired
const lostCodes = new Set<unknown>([280, 286]) // ChangeStreamFatalError, ChangeStreamHistoryLost
const unreadableCodes = new Set<unknown>([9, 50811, 260, 40647, 40649, 50795, 50796]) // FailedToParse, InvalidResumeToken, and what a mutilated one is called

async function guarded<T> (read: () => Promise<T>, stream: ChangeStream): Promise<T> {
  try {
    return await read()
  } catch (error) {
    await stream.close().catch(() => {})
    if (error instanceof MongoServerError && error.code === lateCode) throw new Replaced(error.message, { cause: error })
    if (error instanceof MongoServerError && lostCodes.has(error.code)) throw Object.assign(new ResumeTokenExpired(), { cause: error })
    if (error instanceof MongoServerError && unreadableCodes.has(error.code)) throw Object.assign(new InvalidResumeToken(), { cause: error })
    throw error
  }
}

function stepOf (change: ChangeStreamDocument): Step {
  const at = { token: (change._id as { _data: Position })._data, time: change.clusterTime! }
  if (!('documentKey' in change)) return { ...at, id: undefined, after: undefined, isNew: false, isLater: false, bytes: 0 }
  // Of an update the document as it is now, which may be later, or gone: then the change that made it so comes too.
  const after = ('fullDocument' in change ? change.fullDocument : undefined) ?? undefined
  return { ...at, id: String(change.documentKey._id), after, isNew: change.operationType === 'insert', isLater: change.operationType === 'update', bytes: after === undefined ? 0 : BSON.calculateObjectSize(after) }
}
