/** Tries a call again, if that may help and its time allows: after pauses that grow, and differ from one client to another. */
import { setTimeout } from 'node:timers/promises'
import { BifoldError } from './error.ts'

export interface Patience {
  /** In milliseconds since 1970; nothing is begun that could not be answered before. */
  readonly deadline: number
  readonly signal: AbortSignal | undefined
}

export type Retry = <T>(attempt: () => Promise<T>, patience: Patience) => Promise<T>

const attemptsMax = 10 // with the pauses between, 2.8 to 5.5 s: a service that is restarted is back by then
const pauseMs = { first: 50, longest: 1000 } // before jitter
const retryingMax = 100 // calls of a client that pause or are tried again; were it all of them, a service that comes back would be met by a flood

/** The retries of one client, which are bounded together. */
export function makeRetry (): Retry {
  let retrying = 0
  return async (attempt, { deadline, signal }) => {
    let counted = 0
    let reason: BifoldError | undefined // why the attempt before was in vain
    try {
      for (let attempts = 1; ; attempts++) {
        try {
          return await attempt()
        } catch (error) {
          if (!(error instanceof BifoldError)) throw error
          // That the time was short for one more says less than why there had to be one.
          if (error.code === 'DEADLINE_EXCEEDED' && reason !== undefined) throw reason
          if (!error.retryable || attempts === attemptsMax) throw error
          reason = error
          const pause = Math.max(error.retryAfterMs, pauseAfter(attempts))
          if (Date.now() + pause >= deadline) throw error
          if (counted === 0 && retrying >= retryingMax) throw error
          if (counted === 0) retrying += counted = 1
          await pausing(pause, signal)
        }
      }
    } finally {
      retrying -= counted
    }
  }
}

/** How long to wait before an attempt that follows so many in vain. */
export const pauseAfter = (attempts: number): number => jitter(Math.min(pauseMs.longest, pauseMs.first * 2 ** (attempts - 1)))

/** Between half of it and all. */
const jitter = (ms: number): number => ms * (0.5 + Math.random() / 2)

export async function pausing (ms: number, signal: AbortSignal | undefined) {
  try {
    await setTimeout(ms, undefined, signal === undefined ? {} : { signal })
  } catch (error) {
    throw signal?.aborted === true ? signal.reason : error
  }
}
