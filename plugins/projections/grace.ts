/** The read model that another has taken the place of: kept for a grace under a name that carries the time, and then removed. */
import { MongoServerError, type Db } from 'mongodb'
import pRetry from 'p-retry'
import type { AnyProjection } from '@bifold/cqrs'
import { isOutage, isTimeUp } from '@bifold/mongo'

export const graceMs = 10 * 60_000 // long enough to see that the new one is wrong and to look what the old one had; short enough that nobody needs the room for both

const lockMsMax = 200 // a renaming takes some 10 ms; everybody else waits no longer than this
const pauseMs = 200 // in which they go on
const retriesMax = 5 // 2 s: the live one stands still meanwhile, and so do those that are rebuilt with it

export const isThere = async (db: Db, name: string): Promise<boolean> => await db.listCollections({ name }, { nameOnly: true }).hasNext()

/** The server's: the clocks of those who give the name and of those who remove what has it may differ. */
const timeOf = async (db: Db): Promise<Date> => (await db.command({ hello: 1 }))['localTime'] as Date

const prefixOf = (collection: string) => `${collection}.old-`
const timeLength = new Date(0).toISOString().length

/** Since when something is kept, by its name. */
const timeIn = (name: string): number => Date.parse(name.slice(-timeLength))

/** The name to keep a live collection under, or undefined: nothing is kept where there is none, or where reads may go to secondaries. */
export async function nameToKeep (db: Db, collection: string): Promise<string | undefined> {
  // A secondary repeats the two renames of `exchange` one after the other, and shows nothing in between.
  if (db.readPreference.mode !== 'primary' || !await isThere(db, collection)) return undefined
  return `${prefixOf(collection)}${(await timeOf(db)).toISOString()}`
}

/**
 * Puts a collection in the place of the live one, in one step for whoever reads.
 *
 * @returns the name under which the one before is kept, if it is
 */
export async function takePlace (db: Db, next: string, live: string, old: string | undefined): Promise<string | undefined> {
  if (old !== undefined) {
    try {
      await atAMoment(async () => await exchange(db, next, live, old))
      return old
    } catch (error) {
      // It may not do this, its server has no such command, or somebody's transaction is in the way: each says so in its own way.
      if (!(error instanceof MongoServerError) || isOutage(error)) throw error
      await db.collection<{ _id: string }>(next).deleteOne({ _id: old }) // the fence, if it was broken off behind that
    }
  }
  await atAMoment(async () => await db.renameCollection(next, live, { dropTarget: true, maxTimeMS: lockMsMax }))
  return undefined
}

/**
 * A rename waits until no transaction is open that has to do with the collection, or, for the exchange, with the server at all; and
 * all who come later wait for the rename. So it waits for a moment only, lets them pass, and is tried again.
 */
const atAMoment = async (rename: () => Promise<unknown>): Promise<unknown> =>
  await pRetry(rename, { retries: retriesMax, factor: 1, minTimeout: pauseMs, shouldRetry: ({ error }) => isTimeUp(error) })

/**
 * Two renames under one lock of the server: `applyOps` is what its own tools apply an oplog with. As an oplog may be applied twice,
 * a rename of what is not there is passed over, and the live one would be gone; an insert into what is not there ends it.
 */
async function exchange (db: Db, next: string, live: string, old: string) {
  const full = (name: string) => `${db.databaseName}.${name}`
  const rename = (from: string, to: string) => ({ op: 'c', ns: full('$cmd'), o: { renameCollection: full(from), to: full(to), stayTemp: false } })
  const fence = ['i', 'd'].map(op => ({ op, ns: full(next), o: { _id: old } }))
  try {
    await db.admin().command({ applyOps: [...fence, rename(live, old), rename(next, live)], maxTimeMS: lockMsMax, writeConcern: { w: 'majority' } })
  } catch (error) {
    if (!isTimeUp(error)) throw error
    if (!await isThere(db, next)) return // it was done, and the time was over then
    if (await isThere(db, live)) throw error
    await db.renameCollection(next, live) // it was over in the midst of it
  }
}

/** Removes what was kept for longer than the grace; what has another name is none of ours. */
export async function removeOld (db: Db, projections: readonly AnyProjection[], graceMs: number): Promise<void> {
  const names = (await db.listCollections({}, { nameOnly: true }).toArray()).map(({ name }) => name)
  const old = names.filter(name => projections.some(({ collection }) => name.length === prefixOf(collection).length + timeLength && name.startsWith(prefixOf(collection))))
  if (old.length === 0) return
  const now = await timeOf(db)
  for (const name of old) if (keptUntil(name, graceMs) < now) await db.collection(name).drop()
}

/** Until when it is kept. */
export const keptUntil = (name: string, graceMs: number): Date => new Date(timeIn(name) + graceMs)
