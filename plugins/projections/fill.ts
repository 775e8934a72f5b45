/**
 * Fills read models that have nothing yet from the event log in PostgreSQL: at the first start, after the loss of MongoDB, and
 * when Kafka no longer has what they have not seen. It reads the log as it stood at one place of the WAL, and leaves checkpoints
 * from which Kafka's messages go on, each exactly once: those before that place are passed over by their sequence.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import type { Admin } from 'kafkajs'
import type { ClientSession, Db } from 'mongodb'
import type { FastifyBaseLogger } from 'fastify'
import { readMessage, type AnyProjection, type Document, type EventRow } from '@bifold/cqrs'
import { messageOf, snapshotEvents, type EventLogSnapshot } from '@bifold/postgres'
import { checkpointId, checkpoints, inOrder, operation, type Checkpoint } from './apply.ts'
import { fold } from './fold.ts'

export interface FillOptions {
  readonly url: string
  readonly db: Db
  readonly admin: Admin
  readonly topic: string
  readonly projections: readonly AnyProjection[]
  readonly signal: AbortSignal
  readonly log: FastifyBaseLogger
  /** Told how far it is. */
  readonly filling: (done: number, all: number) => void
}

const pageMax = 2000 // events in a transaction, some 2 MB
const againMs = 100 // soon enough not to be noticed
const staleMs = 10_000 // a projector that has written no page for so long is gone, or will find itself fenced off

/** Who fills a read model now; in the transaction of each page, so that whoever has lost it writes nothing more. */
interface Claim { readonly _id: string, readonly token: string, readonly at: Date }

const claims = (db: Db) => db.collection<Claim>('fills')

/** Makes the indexes of a read model that are missing. */
export async function createIndexes (db: Db, { collection, indexes }: AnyProjection): Promise<void> {
  if (indexes.length > 0) await db.collection(collection).createIndexes(indexes.map(key => ({ key: { ...key } })))
}

/** Fills those that have no checkpoint in any partition; afterwards each has one in every partition. */
export async function fillEmpty (options: FillOptions): Promise<void> {
  const { url, db, admin, topic, projections, log } = options
  const seen = await checkpoints(db).distinct('projection', { _id: { $in: await every(options, projections) } })
  const empty = projections.filter(({ collection }) => !seen.includes(collection))
  if (empty.length === 0) return
  // Before the snapshot: what is sent from now on is committed before it or is read from the topic, or both.
  const partitions = await admin.fetchTopicOffsets(topic)
  const snapshot = await snapshotEvents(url, topic)
  try {
    const token = randomUUID()
    for (const projection of empty) await claim(db, projection, token)
    log.info({ projections: empty.map(({ collection }) => collection), events: snapshot?.count ?? 0 }, 'filling from PostgreSQL')
    if (snapshot !== undefined) await writeAll(options, empty, snapshot, token)
    if (snapshot !== undefined) await untilOnTopic(options, empty, snapshot, token)
    for (const projection of empty) {
      // Without an event log, the topic from its beginning is all there is.
      const marks = partitions.map(({ partition, low, high }): Checkpoint => ({
        _id: checkpointId(projection, topic, partition),
        projection: projection.collection,
        partition,
        offset: Number(snapshot === undefined ? low : high),
        sequence: snapshot?.sequence ?? ''
      }))
      await inClaim(options, projection, token, async session => {
        await checkpoints(db).insertMany(marks, { session })
        await claims(db).deleteOne({ _id: projection.collection, token }, { session })
      })
    }
    log.info({ events: snapshot?.count ?? 0 }, 'filled from PostgreSQL')
  } finally {
    await snapshot?.close()
  }
}

/** Gives up where a projection stands, so that it is filled anew; whoever works on it is fenced off. */
export async function forget (db: Db, { collection }: AnyProjection): Promise<void> {
  await db.client.withSession(async session => await session.withTransaction(async () => {
    await checkpoints(db).deleteMany({ projection: collection }, { session })
    await claims(db).updateOne({ _id: collection }, { $set: { token: '', at: new Date(0) } }, { upsert: true, session })
  }))
}

/** @throws if the read model is being filled, or is to be: nobody may work on it without its checkpoints */
export async function unlessFilling (db: Db, { collection }: AnyProjection): Promise<void> {
  if (await claims(db).findOne({ _id: collection }) !== null) throw new Error(`${collection} is being filled`)
}

const every = async ({ admin, topic }: FillOptions, projections: readonly AnyProjection[]) =>
  (await admin.fetchTopicOffsets(topic)).flatMap(({ partition }) => projections.map(projection => checkpointId(projection, topic, partition)))

/** Takes the read model over, and removes what somebody has left unfinished. */
async function claim (db: Db, projection: AnyProjection, token: string) {
  const { collection } = projection
  const mine = { token, at: new Date() }
  const stale = { _id: collection, at: { $lt: new Date(Date.now() - staleMs) } }
  try {
    await claims(db).updateOne(stale, { $set: mine }, { upsert: true })
  } catch (error) {
    if ((error as { code?: number }).code === duplicateKey) throw new Error(`another projector is filling ${collection}`)
    throw error
  }
  if (await db.collection(collection).estimatedDocumentCount() === 0) return
  await db.collection(collection).drop()
  await createIndexes(db, projection)
}

const duplicateKey = 11000 // the claim is there and is not stale

async function writeAll (options: FillOptions, projections: readonly AnyProjection[], snapshot: EventLogSnapshot, token: string) {
  const { signal, filling } = options
  let done = 0
  const pages = snapshot.pages(pageMax)
  // The next page is read while this one is written.
  for (let page = await pages.next(); !page.done;) {
    if (signal.aborted) throw new Error('the projector is being closed')
    const [, next] = await Promise.all([writePage(options, projections, page.value, snapshot.sequence, token), pages.next()])
    filling(done += page.value.length, snapshot.count)
    page = next
  }
}

/** What the relay had not sent yet comes with a sequence that is passed over; if it has to begin anew, that would not be so. */
async function untilOnTopic (options: FillOptions, projections: readonly AnyProjection[], snapshot: EventLogSnapshot, token: string) {
  while (!await snapshot.onTopic()) {
    if (options.signal.aborted) throw new Error('the projector is being closed')
    for (const projection of projections) await inClaim(options, projection, token, async () => {})
    await setTimeout(againMs)
  }
}

async function writePage (options: FillOptions, projections: readonly AnyProjection[], rows: readonly EventRow[], sequence: string, token: string) {
  const events = rows.map(row => readMessage(messageOf(row, sequence)))
  for (const projection of projections) {
    const changes = fold(events.flatMap(event => projection.on[event.type]?.(event as never) ?? []))
    await inClaim(options, projection, token, async session => {
      if (changes.length > 0) await options.db.collection<Document>(projection.collection).bulkWrite(inOrder(changes).map(change => operation(projection, change)), { session })
    })
  }
}

/** A transaction that is done only as long as the read model is ours. */
async function inClaim ({ db }: FillOptions, { collection }: AnyProjection, token: string, write: (session: ClientSession) => Promise<void>) {
  await db.client.withSession(async session => await session.withTransaction(async () => {
    const { matchedCount } = await claims(db).updateOne({ _id: collection, token }, { $set: { at: new Date() } }, { session })
    if (matchedCount === 0) throw new Error(`another projector has taken over the filling of ${collection}`)
    await write(session)
  }))
}
