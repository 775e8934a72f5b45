/** A call as the readers see it, and what a failed read means to its caller. */
import { DeadlineExceeded, Unavailable } from '@bifold/cqrs'
import { isOutage, isTimeUp } from '@bifold/mongo'

/** How long a caller waits who sets no deadline: longer than any healthy answer takes. */
export const deadlineMs = 5000

/**
 * Listeners to the end of one call, of which Node takes more than 10 for a leak. A search that halves a page of 100 until it fits
 * reads twice for each of 7 sizes, and each read may wait for a token too: 28, and room for those that are not ours.
 */
export const listenersMax = 40

export interface Call {
  /** Until when it waits, in milliseconds since 1970. */
  readonly deadline: number
  /** The consistency tokens, as they came. */
  readonly tokens: readonly string[]
  /** What it came in on, and its answer goes out on: equal for all calls of one connection, and for no others. */
  connection (): unknown
  /** True if nobody waits for the answer any more. */
  gone (): boolean
  /** Calls the listener when the call has ended: it was answered, or nobody waits any more. */
  onEnd (listener: () => void): void
}

/** The error to answer with. */
export function outcomeOf (error: unknown): unknown {
  if (isTimeUp(error)) return new DeadlineExceeded()
  return isOutage(error) ? Object.assign(new Unavailable('MongoDB'), { cause: error }) : error
}
