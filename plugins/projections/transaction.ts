/** A MongoDB transaction: tried again as long as it is only in the way of another, or the server is away for a moment. */
import type { ClientSession, Db } from 'mongodb'
import { endingAbandoned } from './abandoned.ts'

export async function inTransaction<T> (db: Db, run: (session: ClientSession) => Promise<T>): Promise<T> {
  return await endingAbandoned(db, async () => await db.client.withSession(async session => await session.withTransaction(async () => await run(session))))
}
