/** A call as the readers see it, and what a failed read means to its caller. */
import { MongoServerError } from 'mongodb'
import { DeadlineExceeded, Unavailable } from '@bifold/cqrs'
import { isOutage } from '@bifold/mongo'

export interface Call {
  /** Until when it waits, in milliseconds since 1970. */
  readonly deadline: number
  /** The consistency tokens, as they came. */
  readonly tokens: readonly string[]
  /** True if nobody waits for the answer any more. */
  gone (): boolean
  /** Calls the listener when the call has ended: it was answered, or nobody waits any more. */
  onEnd (listener: () => void): void
}

const maxTimeExpired = 50

/** The error to answer with. */
export function outcomeOf (error: unknown): unknown {
  if (error instanceof MongoServerError && error.code === maxTimeExpired) return new DeadlineExceeded()
  return isOutage(error) ? Object.assign(new Unavailable('MongoDB'), { cause: error }) : error
}
