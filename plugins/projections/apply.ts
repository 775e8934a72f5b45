/** Applies a stretch of one partition to one projection: its writes and its checkpoint in one MongoDB transaction. */
import { Binary, MongoError, MongoServerError, type AnyBulkWriteOperation, type Db, type MongoClient } from 'mongodb'
import type { AnyProjection, Change, Document, Envelope } from '@bifold/cqrs'
import { fold } from './fold.ts'

/** How far a projection has got in a partition. */
export interface Checkpoint {
  readonly _id: string
  readonly projection: string
  readonly partition: number
  /** The next message to apply. */
  readonly offset: number
  /** The sequence of the last event applied. */
  readonly sequence: string
}

/** A message as it lies on the topic. */
export interface RawMessage { readonly offset: string, readonly timestamp: string, readonly key: Buffer | null, readonly value: Buffer | null, readonly headers?: Record<string, unknown> | undefined, readonly isControlRecord?: boolean }

/** A message that was not applied, with the reason. */
export interface DeadLetter { readonly message: RawMessage, readonly reason: string }

/** Consecutive messages of one partition: events to apply, and letters to keep. */
export interface Stretch {
  readonly topic: string
  readonly partition: number
  readonly events: readonly { readonly message: RawMessage, readonly envelope: Envelope }[]
  readonly deadLetters: readonly DeadLetter[]
  /** The message after the last. */
  readonly next: number
}

/** Another projector has moved this checkpoint: the partition is no longer ours. */
export class Fenced extends Error {
  constructor (id: string) { super(`another projector has moved the checkpoint ${id}`) }
}

export const checkpoints = (db: Db) => db.collection<Checkpoint>('checkpoints')
const deadLetters = (db: Db) => db.collection<{ _id: string }>('deadLetters')

export const checkpointId = (projection: AnyProjection, topic: string, partition: number) => `${projection.collection}/${topic}/${partition}`

/**
 * Applies a stretch, and moves the checkpoint from where this projector believes it to be.
 *
 * An event that MongoDB refuses is kept as a dead letter; the others of the stretch are applied.
 *
 * @param from the checkpoint as it was read or last moved; undefined if there is none yet
 * @returns the checkpoint after it, and the events that became dead letters
 * @throws Fenced; or what MongoDB threw, if it is away
 */
export async function apply (client: MongoClient, db: Db, projection: AnyProjection, stretch: Stretch, from: Checkpoint | undefined): Promise<{ checkpoint: Checkpoint, refused: DeadLetter[] }> {
  const changes: Change[] = []
  const refused: DeadLetter[] = []
  for (const { message, envelope } of stretch.events) {
    try {
      changes.push(...[projection.on[envelope.type]!(envelope as never)].flat())
    } catch (error) {
      refused.push({ message, reason: `the projection ${projection.collection} threw: ${(error as Error).message}` })
    }
  }
  const sequence = stretch.events.at(-1)?.envelope.sequence ?? from?.sequence ?? ''
  const to: Checkpoint = { _id: checkpointId(projection, stretch.topic, stretch.partition), projection: projection.collection, partition: stretch.partition, offset: stretch.next, sequence }
  try {
    await commit(client, db, projection, stretch, { from, to, changes: fold(changes), letters: refused })
    return { checkpoint: to, refused }
  } catch (error) {
    if (!isRefusal(error)) throw error
    return await applySingly(client, db, projection, stretch, from)
  }
}

/** Finds the event that MongoDB refuses by applying one at a time. */
async function applySingly (client: MongoClient, db: Db, projection: AnyProjection, stretch: Stretch, from: Checkpoint | undefined) {
  const refused: DeadLetter[] = []
  let checkpoint = from
  for (const [index, { message, envelope }] of stretch.events.entries()) {
    const last = index === stretch.events.length - 1
    const to: Checkpoint = {
      _id: checkpointId(projection, stretch.topic, stretch.partition),
      projection: projection.collection,
      partition: stretch.partition,
      offset: last ? stretch.next : Number(message.offset) + 1,
      sequence: envelope.sequence
    }
    const step = { ...stretch, deadLetters: last ? stretch.deadLetters : [] }
    try {
      // A document that was there already, as after a restored backup, is replaced: the event is the truth.
      const changes = fold([projection.on[envelope.type]!(envelope as never)].flat()).map(change => change.op === 'insert' ? { ...change, op: 'replace' as const } : change)
      await commit(client, db, projection, step, { from: checkpoint, to, changes, letters: [] })
    } catch (error) {
      if (!isRefusal(error)) throw error
      const letter = { message, reason: (error as Error).message }
      await commit(client, db, projection, step, { from: checkpoint, to, changes: [], letters: [letter] })
      refused.push(letter)
    }
    checkpoint = to
  }
  return { checkpoint: checkpoint!, refused }
}

interface Move { readonly from: Checkpoint | undefined, readonly to: Checkpoint, readonly changes: readonly Change[], readonly letters: readonly DeadLetter[] }

async function commit (client: MongoClient, db: Db, projection: AnyProjection, stretch: Stretch, { from, to, changes, letters }: Move) {
  await client.withSession(async session => await session.withTransaction(async () => {
    // First the fence: who has lost the partition stops before it writes.
    if (from === undefined) {
      const { upsertedCount } = await checkpoints(db).updateOne({ _id: to._id }, { $setOnInsert: to }, { upsert: true, session })
      if (upsertedCount === 0) throw new Fenced(to._id)
    } else {
      const { matchedCount } = await checkpoints(db).updateOne({ _id: to._id, offset: from.offset, sequence: from.sequence }, { $set: to }, { session })
      if (matchedCount === 0) throw new Fenced(to._id)
    }
    // Ordered: after a refusal the transaction is gone, and whatever else were sent would fail for that, as a fault to be tried
    // again, and hide the refusal for ever.
    const byKind = inOrder(changes).map(change => operation(projection, change))
    if (byKind.length > 0) await db.collection<Document>(projection.collection).bulkWrite(byKind, { ordered: true, session })
    const kept = [...stretch.deadLetters, ...letters]
    if (kept.length > 0) {
      await deadLetters(db).bulkWrite(kept.map(letter => {
        const document = letterDocument(projection, stretch, letter)
        return { replaceOne: { filter: { _id: document._id }, replacement: document, upsert: true } }
      }), { session })
    }
  }))
}

const kinds = { insert: 0, replace: 1, update: 1, remove: 2 } // as MongoDB's commands: insert, update, delete

/** One command for each kind, since folded changes may come in any order. */
export const inOrder = (changes: readonly Change[]): Change[] => changes.toSorted((a, b) => kinds[a.op] - kinds[b.op])

/** A change as MongoDB writes it, with the message that the query service sends. */
export function operation ({ message }: AnyProjection, change: Change): AnyBulkWriteOperation<Document> {
  const filter = { _id: change.id }
  const stored = (doc: Document) => message === undefined ? doc : { ...doc, _message: message(doc as never) }
  switch (change.op) {
    case 'insert': return { insertOne: { document: stored(change.doc) } }
    case 'replace': return { replaceOne: { filter, replacement: stored(change.doc), upsert: true } }
    // The message of before is wrong now; the query service makes it from the document.
    case 'update': return { updateOne: { filter, update: { $set: change.set, $inc: change.inc, ...message === undefined ? {} : { $unset: { _message: 1 } } }, upsert: true } }
    case 'remove': return { deleteOne: { filter } }
  }
}

function letterDocument ({ collection }: AnyProjection, { topic, partition }: Stretch, { message, reason }: DeadLetter) {
  return {
    _id: `${collection}/${topic}/${partition}/${message.offset}`,
    projection: collection,
    topic,
    partition,
    offset: Number(message.offset),
    key: message.key === null ? null : new Binary(message.key),
    value: message.value === null ? null : new Binary(message.value),
    headers: Object.fromEntries(Object.entries(message.headers ?? {}).map(([name, value]) => [name, String(value)])),
    reason,
    time: new Date()
  }
}

// Codes that speak of the document, not of the server: a duplicate key, a document that is too large or does not fit.
const refusals = new Set([2, 9, 52, 57, 66, 121, 10334, 11000, 17280, 17419])

/** True if the document is at fault: the server says so, or the driver cannot even write it as BSON. Everything else is tried again. */
function isRefusal (error: unknown): boolean {
  if (error instanceof Fenced) return false
  if (error instanceof MongoServerError) return refusals.has(Number(error.code)) && !error.hasErrorLabel('TransientTransactionError')
  return !(error instanceof MongoError)
}
