/** Tells a server that is away, and an operation that took longer than it may, from one that failed. */
import { MongoError, MongoNetworkError, MongoNotConnectedError, MongoServerError, MongoServerSelectionError, MongoTopologyClosedError } from 'mongodb'

// Shutting down, stepping down, not primary (yet): another member answers soon, or this one again.
const codes = new Set([91, 189, 10107, 11600, 11602, 13435, 13436])

const maxTimeExpired = 50

/** True if the time that was given to the operation (`maxTimeMS`) is over. */
export const isTimeUp = (error: unknown): boolean => error instanceof MongoServerError && error.code === maxTimeExpired

/** True if the error says that MongoDB is away, so that the same operation may succeed later. */
export function isOutage (error: unknown): boolean {
  if (error instanceof MongoServerError) return codes.has(Number(error.code)) || error.hasErrorLabel('RetryableWriteError')
  return error instanceof MongoNetworkError || error instanceof MongoServerSelectionError || error instanceof MongoNotConnectedError ||
    // The first connection failed while another operation waited for it.
    error instanceof MongoTopologyClosedError || (error instanceof MongoError && error.name === 'MongoPoolClearedError')
}
