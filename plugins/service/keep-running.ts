/** Runs something again whenever it ends, with a growing pause, until it is told to stop. */
import pRetry from 'p-retry'

const pauseMs = { first: 500, longest: 30_000 } // soon enough after one crash; no burden when it crashes for ever
const healthyMs = 60_000 // after a minute the next end counts as the first again

/** Resolves after the signal, when `once` has resolved; `once` never rejects. No pause is longer than `pauseMsMax`. */
export async function keepRunning (once: () => Promise<void>, signal: AbortSignal, pauseMsMax = pauseMs.longest): Promise<void> {
  const attempt = async () => {
    const begun = Date.now()
    await once()
    if (!signal.aborted && Date.now() - begun < healthyMs) throw new Error('it ended soon')
  }
  while (!signal.aborted) {
    await pRetry(attempt, { retries: Infinity, minTimeout: pauseMs.first, maxTimeout: pauseMsMax, signal }).catch(() => {}) // only the signal ends the retries
  }
}
