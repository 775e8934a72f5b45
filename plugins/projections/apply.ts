/** Applies a stretch of one partition to one projection: its writes and its checkpoint in one MongoDB transaction. */
import { setTimeout } from 'node:timers/promises'
import { MongoError, MongoServerError, type AnyBulkWriteOperation, type ClientSession, type Db } from 'mongodb'
import { notesName, type AnyProjection, type Change, type Document } from '@bifold/cqrs'
import { Outdated } from '@bifold/kafka'
import { fold } from './fold.ts'
import { keepLetters, type Letter, type Parked } from './letters.ts'
import { openNotes, unshown, writeNotes, type Notebook } from './notes.ts'
import { adopt, asReplace, headIn, parking, plan, type Plan, type Stretch } from './plan.ts'
import { inTransaction } from './transaction.ts'

/** How far a projection has got in a partition. */
export interface Checkpoint {
  readonly _id: string
  readonly projection: string
  /** The projection's. */
  readonly version: number
  readonly partition: number
  /** The next message to apply. */
  readonly offset: number
  /** The sequence of the last event applied. */
  readonly sequence: string
  /** Under which name the read model was built: another one after each rebuild, so that who worked on the one before is fenced off. */
  readonly build?: string
}

/** Those that have no checkpoint in any partition of a topic, or no collection: nobody may work on them before they are built. */
export async function unbuilt (db: Db, topic: string, partitions: readonly { readonly partition: number }[], projections: readonly AnyProjection[]): Promise<AnyProjection[]> {
  const ids = partitions.flatMap(({ partition }) => projections.map(projection => checkpointId(projection, topic, partition)))
  const [seen, there] = await Promise.all([
    checkpoints(db).distinct('projection', { _id: { $in: ids } }),
    db.listCollections({ name: { $in: projections.flatMap(collectionsOf) } }, { nameOnly: true }).map(({ name }) => name).toArray()
  ])
  return projections.filter(projection => !seen.includes(projection.collection) || !collectionsOf(projection).every(name => there.includes(name)))
}

/** Without which a projection cannot go on. */
const collectionsOf = ({ collection, notes }: AnyProjection): string[] => [collection, ...notes === undefined ? [] : [notesName(collection)]]

/** What a stretch is applied to; the parked aggregates grow with what cannot be applied. */
export interface Target { readonly db: Db, readonly projection: AnyProjection, readonly parked: Parked }

/** Another projector has moved this checkpoint: the partition is no longer ours. */
export class Fenced extends Outdated {
  constructor (id: string) { super(`another projector has moved the checkpoint ${id}`) }
}

const tries = { max: 3, pauseMs: 100 } // of an event that MongoDB refuses, in case it was only for a moment

export const checkpoints = (db: Db) => db.collection<Checkpoint>('checkpoints')

export const checkpointId = ({ collection }: AnyProjection, topic: string, partition: number) => `${collection}/${topic}/${partition}`

/**
 * Applies a stretch, and moves the checkpoint from where this projector believes it to be.
 *
 * An event that cannot be applied is kept as a dead letter and parks its aggregate; the others of the stretch are applied.
 *
 * @param from the checkpoint as it was read or last moved; undefined if there is none yet
 * @returns the checkpoint after it, and what was kept as dead letters
 * @throws Outdated; or what MongoDB threw, if it is away
 */
export async function apply (target: Target, stretch: Stretch, from: Checkpoint | undefined): Promise<{ checkpoint: Checkpoint, letters: readonly Letter[] }> {
  const to = moved(target, stretch, from, stretch.events.at(-1)?.envelope.sequence ?? from?.sequence ?? '', stretch.next)
  if (stretch.events.length === 0 && stretch.unreadable.length === 0) {
    await move(target.db, from, to) // one write, which needs no transaction
    return { checkpoint: to, letters: [] }
  }
  let planned: Plan | undefined
  try {
    await commit(target, { from, to, events: stretch.events, plan: notebook => (planned = plan(target, stretch, stretch, notebook)) })
  } catch (error) {
    if (!isOfChange(error, planned)) throw error
    return await applySingly(target, stretch, from)
  }
  adopt(target, planned!)
  return { checkpoint: to, letters: planned!.letters }
}

/** Finds the events that MongoDB refuses by applying one message at a time. */
async function applySingly (target: Target, stretch: Stretch, from: Checkpoint | undefined) {
  const letters: Letter[] = []
  let at = from
  const parts = [
    ...stretch.events.map(received => ({ ...received, part: { events: [received], unreadable: [] } })),
    ...stretch.unreadable.map(kept => ({ ...kept, envelope: undefined, part: { events: [], unreadable: [kept] } }))
  ].toSorted((a, b) => Number(a.message.offset) - Number(b.message.offset)) // what the checkpoint has passed is applied or kept
  for (const [index, { message, envelope, part }] of parts.entries()) {
    const last = index === parts.length - 1
    const to = moved(target, stretch, at, envelope?.sequence ?? at?.sequence ?? '', last ? stretch.next : Number(message.offset) + 1)
    let [planned, refusal]: [Plan | undefined, Error | undefined] = [undefined, undefined]
    for (let tried = 1; ; tried++) {
      planned = undefined // what cannot even be planned is no refusal of what the try before has planned
      const own = (notebook: Notebook): Plan => refusal === undefined ? plan(target, stretch, part, notebook) : parking(target, stretch, part.events[0]!, refusal.message, tries.max)
      try {
        await commit(target, { from: at, to, events: part.events, plan: notebook => (planned = own(notebook)), change: asReplace })
        break
      } catch (error) {
        if (!isOfChange(error, planned)) throw error
        if (tried < tries.max) await setTimeout(tries.pauseMs)
        else refusal = error as Error
      }
    }
    adopt(target, planned!)
    letters.push(...planned!.letters)
    at = to
  }
  return { checkpoint: at!, letters }
}

export const makeCheckpoint = (projection: AnyProjection, { topic, partition }: { topic: string, partition: number }, sequence: string, offset: number): Checkpoint =>
  ({ _id: checkpointId(projection, topic, partition), projection: projection.collection, version: versionOf(projection), partition, offset, sequence })

const moved = ({ projection }: Target, stretch: Stretch, from: Checkpoint | undefined, sequence: string, offset: number): Checkpoint =>
  from === undefined ? makeCheckpoint(projection, stretch, sequence, offset) : { ...from, sequence, offset }

export const versionOf = ({ version = 1 }: AnyProjection): number => version

interface Move {
  readonly from: Checkpoint | undefined
  readonly to: Checkpoint
  readonly events: Stretch['events']
  /** Made anew whenever the transaction begins again. */
  readonly plan: (notebook: Notebook) => Plan
  readonly change?: (change: Change) => Change
}

/** The fence: a checkpoint is moved from where this projector believes it to be, or not at all. */
async function move (db: Db, from: Checkpoint | undefined, to: Checkpoint, session?: ClientSession) {
  const within = session === undefined ? {} : { session }
  if (from === undefined) {
    const { upsertedCount } = await checkpoints(db).updateOne({ _id: to._id }, { $setOnInsert: to }, { upsert: true, ...within })
    if (upsertedCount === 0) throw new Fenced(to._id)
  } else {
    const { _id, offset, sequence, build } = from
    const { matchedCount } = await checkpoints(db).updateOne({ _id, offset, sequence, build: build ?? { $exists: false } }, { $set: to }, within)
    if (matchedCount === 0) throw new Fenced(to._id)
  }
}

async function commit (target: Target, { from, to, events, plan, change = each => each }: Move) {
  const { db, projection } = target
  await inTransaction(db, async session => {
    await move(db, from, to, session) // first: who has lost the partition stops before it writes
    const notebook = await openNotes(db, session, projection, events.map(({ envelope }) => envelope))
    const planned = plan(notebook)
    const changes = fold(planned.changes).map(change)
    await write(db, session, projection, changes)
    await writeNotes(db, session, projection, notebook, unshown(planned.versions, changes))
    await keepLetters(db, session, planned.letters, headIn(target, planned))
  })
}

/** Writes folded changes, within a transaction. */
export async function write (db: Db, session: ClientSession, projection: AnyProjection, changes: readonly Change[]): Promise<void> {
  if (changes.length === 0) return
  // Ordered: after a refusal the transaction is gone, and whatever else were sent would fail for that, as a fault to be tried
  // again, and hide the refusal for ever.
  await db.collection<Document>(projection.collection).bulkWrite(inOrder(changes).map(change => operation(projection, change)), { ordered: true, session })
}

const kinds = { insert: 0, replace: 1, update: 1, remove: 2 } // as MongoDB's commands: insert, update, delete

/** One command for each kind, since folded changes may come in any order. */
const inOrder = (changes: readonly Change[]): Change[] => changes.toSorted((a, b) => kinds[a.op] - kinds[b.op])

/** A change as MongoDB writes it, with the message that the query service sends. */
function operation ({ message }: AnyProjection, change: Change): AnyBulkWriteOperation<Document> {
  const filter = { _id: change.id }
  const stored = (doc: Document) => message === undefined ? doc : { ...doc, _message: message(doc as never) }
  switch (change.op) {
    case 'insert': return { insertOne: { document: stored(change.doc) } }
    case 'replace': return { replaceOne: { filter, replacement: stored(change.doc), upsert: true } }
    // The message of before is wrong now; the query service makes it from the document.
    case 'update': {
      const $unset = Object.fromEntries([...change.unset, ...message === undefined ? [] : ['_message']].map(path => [path, 1 as const]))
      return { updateOne: { filter, update: { $set: change.set, $inc: change.inc, $unset } as object, upsert: true } }
    }
    case 'remove': return { deleteOne: { filter } }
  }
}

// Codes that speak of the document, not of the server: a duplicate key, a document that is too large, a change that does not fit it.
const refusals = new Set([2, 9, 14, 28, 40, 52, 56, 57, 66, 121, 10334, 11000, 17280, 17419])

/** True if a change was refused. What is refused where there is none, such as a letter, cannot be helped by keeping it as a letter. */
const isOfChange = (error: unknown, planned: Plan | undefined): boolean => (planned?.versions.size ?? 0) > 0 && isRefusal(error)

/** True if the document is at fault: the server says so, or the driver cannot even write it as BSON. Everything else is tried again. */
export function isRefusal (error: unknown): boolean {
  if (error instanceof Outdated) return false
  if (error instanceof MongoServerError) return refusals.has(Number(error.code)) && !error.hasErrorLabel('TransientTransactionError')
  return !(error instanceof MongoError)
}
