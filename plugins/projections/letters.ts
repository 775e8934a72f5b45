/**
 * Dead letters: what could not be applied, kept in MongoDB. An event that cannot be applied parks its aggregate: the later ones
 * of the same aggregate wait behind it, in their order, and everything else goes on.
 */
import { Binary, ObjectId, type ClientSession, type Db, type WithId } from 'mongodb'
import type { AnyProjection, Envelope } from '@bifold/cqrs'
import { Outdated, type RawMessage } from '@bifold/kafka'

/** A message that was not applied, as it is kept. */
export interface Letter {
  readonly _id: ObjectId
  readonly projection: string
  readonly topic: string
  readonly partition: number
  /** Null for an event that was read from PostgreSQL. */
  readonly offset: number | null
  /** The aggregate that it parks or waits with; null for a message that nobody can read, which parks nothing. */
  readonly aggregateId: string | null
  /** Letters of an aggregate are applied in the order of these two. */
  readonly sequence: string
  readonly version: number
  readonly key: Binary | null
  readonly value: Binary | null
  readonly headers: Readonly<Record<string, string>>
  readonly reason: string
  /** How often it was tried. */
  readonly tries: number
  /** True if it could be applied for all we know, and waits behind another of its aggregate. */
  readonly waits: boolean
  /** How many wait behind it. */
  readonly behind: number
  readonly time: Date
}

/** The parked aggregates of a projection, each with the letter that it waits behind. */
export type Parked = Map<string, ObjectId>

const parkedMax = 10_000 // aggregates of a projection in a partition, some 1 MB; where there are more, the projection is at fault and not its events

export const letters = (db: Db) => db.collection<Letter>('deadLetters')

/** Makes the indexes that the projector and `npm run dead-letters` read by. */
export async function createLetterIndexes (db: Db): Promise<void> {
  await letters(db).createIndexes([
    { key: { waits: 1, projection: 1, topic: 1, partition: 1 } },
    { key: { projection: 1, aggregateId: 1, sequence: 1, version: 1 } }
  ])
}

/** The aggregates that are parked in a partition. */
export async function loadParked (db: Db, { collection }: AnyProjection, topic: string, partition: number): Promise<Parked> {
  const heads = letters(db).find({ waits: false, projection: collection, topic, partition, aggregateId: { $ne: null } }, { projection: { aggregateId: 1 } })
  const parked: Parked = new Map()
  for await (const { _id, aggregateId } of heads) park(parked, aggregateId!, _id)
  return parked
}

/**
 * @param others how many are parked besides
 * @throws if those are too many
 */
export function park (parked: Parked, aggregateId: string, head: ObjectId, others = 0): void {
  parked.set(aggregateId, head)
  if (parked.size + others > parkedMax) throw new Error(`More than ${parkedMax} aggregates would be parked: the projection is at fault, not its events`)
}

interface Unapplied { readonly message: RawMessage, readonly envelope?: Envelope, readonly reason: string, readonly tries: number, readonly waits: boolean }

export function makeLetter ({ collection }: AnyProjection, { topic, partition }: { topic: string, partition: number }, { message, envelope, reason, tries, waits }: Unapplied): Letter {
  return {
    _id: new ObjectId(),
    projection: collection,
    topic,
    partition,
    offset: message.offset === '' ? null : Number(message.offset),
    aggregateId: envelope?.id ?? null,
    sequence: envelope?.sequence ?? '',
    version: envelope?.version ?? 0,
    key: message.key && new Binary(message.key),
    value: message.value && new Binary(message.value),
    // A name of BSON ends at NUL; there is a character to show it.
    headers: Object.fromEntries(Object.entries(message.headers ?? {}).map(([name, value]) => [name.replaceAll('\0', '␀'), String(value)])),
    reason,
    tries,
    waits,
    behind: 0,
    time: new Date()
  }
}

/**
 * Keeps letters, in the transaction that moves past them.
 *
 * @throws Outdated if an aggregate that they are to wait with is not parked any more
 */
export async function keepLetters (db: Db, session: ClientSession, kept: readonly Letter[], headOf: (aggregateId: string) => ObjectId): Promise<void> {
  if (kept.length === 0) return
  await letters(db).insertMany([...kept], { session })
  const behind = Map.groupBy(kept.filter(({ waits }) => waits), ({ aggregateId }) => aggregateId!)
  for (const [aggregateId, { length }] of behind) {
    // Who releases the aggregate at this moment removes the letter in front: one of the two transactions begins again.
    const { matchedCount } = await letters(db).updateOne({ _id: headOf(aggregateId) }, { $inc: { behind: length } }, { session })
    if (matchedCount === 0) throw new Outdated(`${aggregateId} is not parked any more`)
  }
}

/** The message that a letter was made of. */
export const messageOf = ({ offset, key, value, headers }: WithId<Letter>): RawMessage & { headers: Record<string, string> } =>
  ({ offset: String(offset ?? ''), timestamp: '', key: key && Buffer.from(key.buffer), value: value && Buffer.from(value.buffer), headers })
