/** Ends transactions that nobody goes on with: those of a process that was killed, or hangs, hold up its successor for a minute or more, until MongoDB gives them up. */
import type { Db, UUID } from 'mongodb'
import { appName } from '@bifold/mongo'

const patienceMs = 2000 // a write takes milliseconds: one that takes so long may wait for a transaction that nobody goes on with
const idleMsMax = 5000 // a transaction is a few messages one after the other; who is silent for so long is dead, or is fenced off when it awakes

/** Does what may have to wait for others' transactions, and ends those meanwhile that nobody goes on with. */
export async function endingAbandoned<T> (db: Db, work: () => Promise<T>): Promise<T> {
  // Without the answer it goes on waiting, and MongoDB ends the other in a minute or two.
  const impatience = setInterval(() => { endAbandoned(db).catch(() => {}) }, patienceMs)
  try {
    return await work()
  } finally {
    clearInterval(impatience)
  }
}

/** One that comes back is told so by its next message, and does it again. */
async function endAbandoned (db: Db): Promise<void> {
  const abandoned = await db.client.db('admin').aggregate<{ lsid: { id: UUID } }>([
    { $currentOp: { idleSessions: true, idleConnections: false } }, // of our own user, which needs no privilege
    { $match: { appName, active: false, 'transaction.timeInactiveMicros': { $gt: idleMsMax * 1000 } } }
  ], { readConcern: { level: 'local' } }).toArray() // it takes no other
  if (abandoned.length > 0) await db.client.db('admin').command({ killSessions: abandoned.map(({ lsid: { id } }) => ({ id })) })
}
