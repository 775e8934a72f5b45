/**
 * Who builds a read model anew, and the one step in which what was built takes the place of the live one: beside it, under a name
 * of its own, until it is renamed. Whatever is killed half-way is settled by whoever comes next.
 */
import { randomBytes } from 'node:crypto'
import type { ClientSession, Db } from 'mongodb'
import { notesName, type AnyProjection } from '@bifold/cqrs'
import { Outdated } from '@bifold/kafka'
import { endingAbandoned } from './abandoned.ts'
import { checkpoints, type Checkpoint } from './apply.ts'
import { isThere, nameToKeep, takePlace } from './grace.ts'
import { letters } from './letters.ts'
import { inTransaction } from './transaction.ts'

/** In MongoDB, for as long as a read model is being built; `_id` is its collection. */
interface Claim {
  readonly _id: string
  /** Of the builder; whoever has lost it changes nothing more. */
  readonly token: string
  /** When it was renewed, by the server's clock: those of the builders may differ. */
  readonly at: Date
  /** The collection that is being built. */
  readonly next: string
  /** Once the live one stands still, where it stood. */
  readonly saved?: readonly Checkpoint[]
  /** What the live one is about to be called. */
  readonly old?: string
}

/** A read model that is ours to build. */
export interface Build {
  readonly projection: AnyProjection
  /** The same, in the collection that is being built. */
  readonly next: AnyProjection
  readonly token: string
  /** @throws once somebody else has taken it over */
  held (): void
  /** To be called when all is over. */
  release (): Promise<void>
}

/** Somebody else is at it. */
export class BeingBuilt extends Error {
  constructor (collection: string) { super(`${collection} is being built by somebody else`) }
}

class Lost extends Error {
  constructor ({ collection }: AnyProjection) { super(`somebody else has taken over the building of ${collection}`) }
}

const renewMs = 2000 // several in a staleMs
const staleMs = 10_000 // a builder that says nothing for so long is gone, or will find that it has lost
const stale = { $lt: ['$at', { $subtract: ['$$NOW', staleMs] }] } // also where there is no claim: a field that is not there is less than any
const namespaceNotFound = 26

const claims = (db: Db) => db.collection<Claim>('builds')
const nextOf = (collection: string) => `${collection}.build-${randomBytes(4).toString('hex')}`
const setAside = (next: string) => `${next}.left`

/**
 * Makes a read model ours to build. What somebody has left unfinished is settled first: it may have checkpoints then.
 *
 * @throws BeingBuilt
 */
export async function claim (db: Db, projection: AnyProjection): Promise<Build> {
  // A builder who was killed in a transaction of his holds the claim's document, and what he has built.
  return await endingAbandoned(db, async () => await claimed(db, projection))
}

async function claimed (db: Db, projection: AnyProjection): Promise<Build> {
  const { collection } = projection
  const mine = { token: randomBytes(16).toString('hex'), next: nextOf(collection) }
  const left = await take(db, collection, mine)
  if (left !== undefined && await settle(db, left, mine) === 'finished') return await claimed(db, projection)
  // What a builder wrote that was frozen, and thawed when all was over.
  for await (const { name } of db.listCollections({ name: { $regex: `^${collection}\\.build-` } }, { nameOnly: true })) await db.collection(name).drop()
  for (const name of [mine.next, notesName(mine.next)]) await db.createCollection(name)
  return hold(db, projection, mine)
}

/** Lets go of all, each whatever becomes of the others: what cannot be released now goes stale by itself. */
export const releaseAll = async (builds: readonly Build[]): Promise<void> => { await Promise.allSettled(builds.map(async ({ release }) => await release())) }

/** @returns what there was before; undefined if there was nothing */
async function take (db: Db, _id: string, { token, next }: Pick<Claim, 'token' | 'next'>): Promise<Claim | undefined> {
  const found = (await claims(db).findOneAndUpdate({ _id }, [{
    $set: { token: { $cond: [stale, token, '$token'] }, at: { $cond: [stale, '$$NOW', '$at'] }, next: { $ifNull: ['$next', next] } }
  }], { upsert: true, returnDocument: 'after' }))!
  if (found.token !== token) throw new BeingBuilt(_id)
  return found.next === next ? undefined : found
}

function hold (db: Db, projection: AnyProjection, { token, next }: Pick<Claim, 'token' | 'next'>): Build {
  let renewed = performance.now()
  const build: Build = {
    projection,
    next: { ...projection, collection: next },
    token,
    held () {
      if (performance.now() - renewed > staleMs) throw new Lost(projection)
    },
    async release () {
      clearInterval(renewing)
      const mine = { _id: projection.collection, token }
      const left = await claims(db).findOne(mine)
      if (left !== null && await settle(db, left, { token, next: '' }) === 'undone') await claims(db).deleteOne(mine)
    }
  }
  const renewing = setInterval(() => {
    const at = performance.now()
    renew(db, build).then(() => { renewed = at }, () => {})
  }, renewMs)
  return build
}

/** Says that the builder is at work, and what else is to be known of it. */
async function renew (db: Db, { projection, token }: Build, known: Partial<Claim> = {}, session?: ClientSession): Promise<void> {
  const { matchedCount } = await claims(db).updateOne({ _id: projection.collection, token }, { $set: known, $currentDate: { at: true } }, session === undefined ? {} : { session })
  if (matchedCount === 0) throw new Lost(projection)
}

/** @throws while what was built takes the place of the live one: a write may come into the one or the other */
export async function unlessSwitching (db: Db, session: ClientSession, { collection }: AnyProjection): Promise<void> {
  if (await claims(db).findOne({ _id: collection, saved: { $exists: true } }, { session }) !== null) throw new Outdated(`${collection} is being rebuilt: try again in a moment`)
}

/** Whether somebody is building it. */
export const isClaimed = async (db: Db, { collection }: AnyProjection): Promise<boolean> => await claims(db).findOne({ _id: collection, $expr: { $not: [stale] } }) !== null

/**
 * Puts what was built in the place of the live read models, with its checkpoints and dead letters.
 *
 * @returns the names under which those before are kept for a grace
 * @param caughtUp called when the live ones stand still, with where each stands; resolves when the new ones are as far, and nobody writes to them
 */
export async function install (db: Db, builds: readonly Build[], caughtUp: (live: readonly { readonly next: AnyProjection, readonly checkpoints: readonly Checkpoint[] }[]) => Promise<void>): Promise<string[]> {
  const live = []
  for (const build of builds) live.push({ next: build.next, checkpoints: await standStill(db, build) })
  await caughtUp(live)
  const kept = []
  for (const build of builds) {
    const { projection: { collection }, next } = build
    const old = await nameToKeep(db, collection)
    await renew(db, build, old === undefined ? {} : { old })
    kept.push(await takePlace(db, next.collection, collection, old) ?? [])
    await finish(db, collection, next.collection)
  }
  return kept.flat()
}

/** Whoever works on the live one finds its checkpoints gone, and waits until there are some again. */
async function standStill (db: Db, build: Build): Promise<Checkpoint[]> {
  const { collection } = build.projection
  return await inTransaction(db, async session => {
    const saved = await checkpoints(db).find({ projection: collection }, { session }).toArray()
    await renew(db, build, { saved }, session)
    await checkpoints(db).deleteMany({ projection: collection }, { session })
    return saved
  })
}

/** After the renaming: the notes, checkpoints and dead letters of the new one are those of the read model. */
async function finish (db: Db, collection: string, next: string): Promise<void> {
  // Readers ask the notes which version is shown, and then read: those of the old one claim no more than the new one shows.
  await renamed(db, notesName(next), notesName(collection), { dropTarget: true })
  await inTransaction(db, async session => {
    const left = await claims(db).findOneAndDelete({ _id: collection, next }, { session })
    if (left === null) return // somebody has done it
    const found = await checkpoints(db).find({ projection: next }, { session }).toArray()
    const built = found.map(checkpoint => ({ ...checkpoint, _id: checkpoint._id.replace(next, collection), projection: collection, build: next }))
    await checkpoints(db).deleteMany({ projection: next }, { session })
    await checkpoints(db).insertMany(built, { session })
    await letters(db).deleteMany({ projection: collection, aggregateId: { $ne: null } }, { session })
    // What nobody can read is in no event log, and the one before has kept what it had passed.
    for (const { _id, partition } of built) {
      const passed = left.saved?.find(saved => saved._id === _id)?.offset ?? 0
      await letters(db).deleteMany({ projection: next, aggregateId: null, partition, offset: { $lt: passed } }, { session })
    }
    await letters(db).updateMany({ projection: next }, { $set: { projection: collection } }, { session })
  })
}

/** Ends what was left unfinished: goes on to its end if it had been renamed; else undoes it, and the claim is ours. */
async function settle (db: Db, { _id, token, next: left, saved, old }: Claim, mine: Pick<Claim, 'token' | 'next'>): Promise<'finished' | 'undone'> {
  // The server was killed between the two renames.
  if (old !== undefined && await isThere(db, old) && !await isThere(db, _id)) await db.renameCollection(old, _id)
  // Out of the way of a builder that was only frozen, and would rename it yet.
  if (left !== '' && !await isThere(db, setAside(left))) {
    const moved = await renamed(db, left, setAside(left))
    if (!moved && saved !== undefined) {
      await finish(db, _id, left)
      return 'finished'
    }
  }
  await inTransaction(db, async session => {
    const { matchedCount } = await claims(db).updateOne({ _id, token }, { $set: mine, $unset: { saved: 1, old: 1 } }, { session })
    if (matchedCount === 0) throw new BeingBuilt(_id)
    for (const checkpoint of saved ?? []) await checkpoints(db).insertOne(checkpoint, { session })
    await checkpoints(db).deleteMany({ projection: left }, { session })
    await letters(db).deleteMany({ projection: left }, { session })
  })
  if (left !== '') for (const name of [setAside(left), notesName(left)]) await db.collection(name).drop()
  return 'undone'
}

/** @returns false if it is not there */
async function renamed (db: Db, from: string, to: string, options = {}): Promise<boolean> {
  return await db.renameCollection(from, to, options).then(() => true, (error: { code?: number }) => {
    if (error.code !== namespaceNotFound) throw error
    return false
  })
}
