/** A MongoDB transaction: tried again as long as it is only in the way of another, or the server is away for a moment. */
import type { ClientSession, Db } from 'mongodb'
import { endAbandoned } from './abandoned.ts'

const patienceMs = 2000 // a transaction takes milliseconds: one that takes so long may wait for another that nobody goes on with

export async function inTransaction<T> (db: Db, run: (session: ClientSession) => Promise<T>): Promise<T> {
  // Without the answer it goes on waiting, and MongoDB ends the other in a minute or two.
  const impatience = setInterval(() => { endAbandoned(db).catch(() => {}) }, patienceMs)
  try {
    return await db.client.withSession(async session => await session.withTransaction(async () => await run(session)))
  } finally {
    clearInterval(impatience)
  }
}
