/** What people do with dead letters: look, apply them again in their order, or discard the one in front. The projector may be at work meanwhile. */
import { ObjectId, type ClientSession, type Db, type WithId } from 'mongodb'
import { readMessage, type AnyProjection } from '@bifold/cqrs'
import { isRefusal, write } from './apply.ts'
import { unlessSwitching } from './claim.ts'
import { fold } from './fold.ts'
import { letters, messageOf, type Letter } from './letters.ts'
import { openNotes, unshown, writeNotes } from './notes.ts'
import { asReplace, changesOf } from './plan.ts'
import { inTransaction } from './transaction.ts'

export type { Letter } from './letters.ts'

/** What trying again came to: how many letters were applied, how many are left, and why the one in front of them still cannot be. */
export interface Outcome { readonly applied: number, readonly left: number, readonly reason?: string }

const pageMax = 500 // letters in a transaction, as the projector's

/** The letters that nothing of their aggregate stands before, oldest first; each tells how many wait behind it. */
export async function heads (db: Db, limit: number): Promise<{ all: number, waiting: number, found: WithId<Letter>[] }> {
  const [all, waiting, found] = await Promise.all([
    letters(db).countDocuments({ waits: false }),
    letters(db).countDocuments({ waits: true }),
    letters(db).find({ waits: false }).sort({ _id: 1 }).limit(limit).toArray()
  ])
  return { all, waiting, found }
}

/** The letter with this id, or the heads of the aggregate with this id, one for each projection that has parked it. */
export async function findLetters (db: Db, id: string): Promise<WithId<Letter>[]> {
  return await letters(db).find(ObjectId.isValid(id) ? { _id: new ObjectId(id) } : { aggregateId: id, waits: false }).sort({ _id: 1 }).toArray()
}

/** Applies the letters of a parked aggregate, in their order, as far as that goes; with the last one the aggregate goes on. */
export async function retry (db: Db, projection: AnyProjection, aggregateId: string): Promise<Outcome> {
  let applied = 0
  for (let size = pageMax; ;) {
    try {
      const { done, left } = await inTransaction(db, async session => await applyLetters(db, session, projection, aggregateId, size))
      applied += done
      if (left === 0) return { applied, left }
    } catch (error) {
      if (!isRefusal(error)) throw error
      // One by one, to find the one at fault.
      if (size > 1) { size = 1; continue }
      const reason = (error as Error).message
      const of = { projection: projection.collection, aggregateId }
      await letters(db).updateOne({ ...of, waits: false }, { $set: { reason }, $inc: { tries: 1 } })
      return { applied, left: await letters(db).countDocuments(of), reason }
    }
  }
}

async function applyLetters (db: Db, session: ClientSession, projection: AnyProjection, aggregateId: string, size: number) {
  await unlessSwitching(db, session, projection)
  const found = await letters(db).find({ projection: projection.collection, aggregateId }, { session }).sort({ sequence: 1, version: 1 }).limit(size).toArray()
  const events = found.map(letter => readMessage(messageOf(letter)))
  const notebook = await openNotes(db, session, projection, events)
  const changes = fold(events.flatMap(event => changesOf(projection, event, notebook))).map(asReplace)
  const left = await remove(db, session, found)
  await write(db, session, projection, changes)
  await writeNotes(db, session, projection, notebook, unshown(new Map(events.map(({ id, version }) => [id, version])), changes))
  return { done: found.length, left }
}

/**
 * Discards a letter: its event is never applied. What waits behind it stays, to be tried again.
 *
 * @throws if it waits behind another, which is to be dealt with first
 */
export async function discard (db: Db, letter: WithId<Letter>): Promise<void> {
  await inTransaction(db, async session => {
    const found = await letters(db).findOne({ _id: letter._id }, { session })
    if (found === null) throw new Error(`There is no dead letter ${String(letter._id)} any more`)
    if (found.waits) throw new Error(`The dead letter ${String(letter._id)} waits behind an earlier one of ${found.aggregateId}: discard that one, or try it again`)
    await remove(db, session, [found])
  })
}

/** Removes letters from the front; the next one then stands there. */
async function remove (db: Db, session: ClientSession, [first, ...others]: readonly WithId<Letter>[]): Promise<number> {
  if (first === undefined) return 0
  await letters(db).deleteMany({ _id: { $in: [first, ...others].map(({ _id }) => _id) } }, { session })
  if (first.aggregateId === null) return 0
  const of = { projection: first.projection, aggregateId: first.aggregateId }
  const left = await letters(db).countDocuments(of, { session })
  const next = await letters(db).findOne(of, { session, sort: { sequence: 1, version: 1 } })
  if (next !== null) await letters(db).updateOne({ _id: next._id }, { $set: { waits: false, behind: left - 1 } }, { session })
  return left
}
