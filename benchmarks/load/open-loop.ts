/**
 * Arrivals at a given rate that do not wait for answers, so that a stall shows in the latency of all who would have come meanwhile
 * ("coordinated omission", Gil Tene, "How NOT to Measure Latency"): latency counts from when a call was due.
 */
import { performance } from 'node:perf_hooks'

export interface OpenLoop {
  readonly perSecond: number
  readonly durationMs: number
  /** Given when the call was due, on performance.now()'s clock. */
  fire (dueMs: number): Promise<void>
}

const tickMs = 1 // what a timer can do; calls that fell due since are fired together

/** Resolves when each call has been answered; rejects with the first error. */
export async function openLoop ({ perSecond, durationMs, fire }: OpenLoop): Promise<void> {
  const meanMs = 1000 / perSecond
  const begun = performance.now()
  const calls: Promise<void>[] = []
  let due = begun
  await new Promise<void>(resolve => {
    const tick = () => {
      const now = performance.now()
      for (; due <= now && due < begun + durationMs; due += meanMs * -Math.log(1 - Math.random())) { // Poisson: independent users
        const call = fire(due)
        call.catch(() => {}) // told at the end
        calls.push(call)
      }
      if (due >= begun + durationMs) resolve()
      else setTimeout(tick, tickMs)
    }
    tick()
  })
  await Promise.all(calls)
}
