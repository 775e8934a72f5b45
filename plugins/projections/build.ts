/**
 * Builds read models from the event log in PostgreSQL, beside the live ones. It reads the log as it stood at one place of the WAL,
 * and leaves checkpoints from which Kafka's messages go on, each exactly once: those before that place are passed over by their
 * sequence.
 */
import { setTimeout } from 'node:timers/promises'
import type { Admin } from 'kafkajs'
import type { Db } from 'mongodb'
import type { FastifyBaseLogger } from 'fastify'
import { envelopeOf, type AnyProjection, type EventRow } from '@bifold/cqrs'
import { partitionOf } from '@bifold/kafka'
import { messageOf, snapshotEvents, type EventLogSnapshot } from '@bifold/postgres'
import { apply, checkpoints, makeCheckpoint, type Checkpoint, type Target } from './apply.ts'
import type { Build } from './claim.ts'
import { letters } from './letters.ts'
import { concerns, type Received } from './plan.ts'
import { inTransaction } from './transaction.ts'
import { makeTurns, type Turn } from './turns.ts'

export interface BuildOptions {
  readonly url: string
  readonly db: Db
  readonly admin: Admin
  readonly topic: string
  /** The types of all events that modules declare. */
  readonly declared: ReadonlySet<string>
  readonly signal: AbortSignal
  readonly log: FastifyBaseLogger
  /** Told how far it is. */
  readonly building: (done: number, all: number) => void
}

const pageMax = 2000 // events in a transaction, some 2 MB
const lanesCount = 3 // transactions at a time: while one waits for the disk, others are encoded and written
const againMs = 100 // soon enough not to be noticed
const logTopic = 'events' // where the checkpoints of a lane and its dead letters are, until the topic's take their place

/** Makes the indexes of a read model that are missing. */
export async function createIndexes (db: Db, { collection, indexes }: AnyProjection): Promise<void> {
  if (indexes.length > 0) await db.collection(collection).createIndexes(indexes.map(key => ({ key: { ...key } })))
}

/** Fills the collections beside the live ones; afterwards each has a checkpoint in every partition. */
export async function build (options: BuildOptions, builds: readonly Build[]): Promise<void> {
  const { url, db, admin, topic, log } = options
  // Before the snapshot: what is sent from now on is committed before it or is read from the topic, or both.
  const partitions = await admin.fetchTopicOffsets(topic)
  const snapshot = await snapshotEvents(url, topic)
  log.info({ projections: builds.map(({ projection }) => projection.collection), events: snapshot?.count ?? 0 }, 'building from PostgreSQL')
  try {
    if (snapshot !== undefined) await writeAll(options, builds, snapshot)
    for (const { next } of builds) await createIndexes(db, next)
    if (snapshot !== undefined) await untilOnTopic(options, builds, snapshot)
    for (const { next, held } of builds) {
      held()
      await handOver(options, next, partitions.map(({ partition, low, high }) =>
        // Without an event log, the topic from its beginning is all there is.
        makeCheckpoint(next, { topic, partition }, snapshot?.sequence ?? '', Number(snapshot === undefined ? low : high))))
    }
    log.info({ events: snapshot?.count ?? 0 }, 'built from PostgreSQL')
  } finally {
    await snapshot?.close()
  }
}

/** A lane writes page after page; the lanes work side by side, and each aggregate has one lane. */
async function writeAll ({ db, declared, signal, building }: BuildOptions, builds: readonly Build[], snapshot: EventLogSnapshot) {
  const turns = makeTurns(builds.map(({ next }) => next))
  const lanes = Array.from({ length: lanesCount }, (_, partition) => makeLane(db, declared, turns, partition))
  let [at, done, last] = [0, 0, '']
  building(0, snapshot.count)
  for await (const page of ahead(snapshot.pages(pageMax))) {
    if (signal.aborted) throw new Error('it was interrupted')
    for (const { held } of builds) held()
    // An aggregate of more than a page goes on in its lane.
    if (page[0]!.aggregateId !== last) at = (at + 1) % lanesCount
    last = page.at(-1)!.aggregateId
    await lanes[at]!.idle()
    lanes[at]!.write(page, snapshot.sequence, () => {
      done += page.length
      building(done, snapshot.count)
    })
  }
  await Promise.all(lanes.map(async ({ idle }) => await idle()))
}

/** An event of the log as if it had come in a message, which is made only if it is kept as a dead letter. */
class LogMessage {
  readonly timestamp = ''
  readonly #row: EventRow
  readonly #sequence: string
  readonly #offset: number

  constructor (row: EventRow, sequence: string, offset: number) {
    this.#row = row
    this.#sequence = sequence
    this.#offset = offset
  }

  get offset () { return String(this.#offset) }
  get key () { return this.#message().key }
  get value () { return this.#message().value }
  get headers () { return this.#message().headers }
  #message () { return messageOf(this.#row, this.#sequence) }
}

/** Asks for the next page while one is worked on. */
async function * ahead<Page> (pages: AsyncGenerator<Page, void, void>): AsyncGenerator<Page, void, void> {
  let next = pages.next()
  while (true) {
    const { done, value } = await next
    if (done === true) return
    next = pages.next()
    next.catch(() => {}) // whoever takes it hears of it
    yield value
  }
}

interface Work { readonly target: Target, readonly inTurn: Turn, checkpoint: Checkpoint | undefined }

function makeLane (db: Db, declared: ReadonlySet<string>, turns: ReadonlyMap<AnyProjection, Turn>, partition: number) {
  const works = [...turns].map(([projection, inTurn]): Work => ({ target: { db, projection, parked: new Map() }, inTurn, checkpoint: undefined }))
  let working = Promise.resolve()
  let offset = 0
  const write = async (rows: readonly EventRow[], sequence: string) => {
    const from = offset
    offset += rows.length
    const events = rows.map((row, index): Received => ({ envelope: envelopeOf(row, sequence), message: new LogMessage(row, sequence, from + index) }))
    for (const work of works) {
      const on = events.filter(({ envelope: { type } }) => concerns(work.target.projection, declared, type))
      await work.inTurn(async () => {
        work.checkpoint = (await apply(work.target, { topic: logTopic, partition, events: on, unreadable: [], next: offset }, work.checkpoint)).checkpoint
      })
    }
  }
  return {
    idle: async () => await working,
    write (rows: readonly EventRow[], sequence: string, done: () => void) {
      working = write(rows, sequence).then(done)
      working.catch(() => {}) // whoever waits until it is idle hears of it
    }
  }
}

/** What the relay had not sent yet comes with a sequence that is passed over; if it has to begin anew, that would not be so. */
async function untilOnTopic ({ signal }: BuildOptions, builds: readonly Build[], snapshot: EventLogSnapshot) {
  while (!await snapshot.onTopic()) {
    if (signal.aborted) throw new Error('it was interrupted')
    for (const { held } of builds) held()
    await setTimeout(againMs)
  }
}

/** The topic's checkpoints take the place of the lanes'; what could not be applied waits for the partition that its aggregate is in. */
async function handOver ({ db, topic }: BuildOptions, { collection }: AnyProjection, marks: readonly Checkpoint[]) {
  for await (const { _id, aggregateId } of letters(db).find({ projection: collection }, { projection: { aggregateId: 1 } })) {
    await letters(db).updateOne({ _id }, { $set: { topic, partition: partitionOf(aggregateId!, marks.length), offset: null } })
  }
  await inTransaction(db, async session => {
    await checkpoints(db).deleteMany({ projection: collection }, { session })
    await checkpoints(db).insertMany([...marks], { session })
  })
}
