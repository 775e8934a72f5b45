/** Work that goes on beside the requests: begun again with backoff when it fails, and part of the app's readiness. */
import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import fp from 'fastify-plugin'
import pRetry from 'p-retry'
import type { FastifyInstance } from 'fastify'
import { healthOf, reason } from './health.ts'

export interface Work {
  /** Aborted when the app closes; the work then finishes what it holds and returns. */
  readonly signal: AbortSignal
  /** Says that the work has begun in earnest: readiness, and the end of the backoff. */
  ready (): void
  /** Says why it has not begun yet, though nothing failed. */
  standby (reason: string): void
}

/** Resolves when the signal is given, or if it was given already: while the work was still beginning, no event tells. */
export async function aborted (signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort')
}

/** `beside`: the app does its work without it, so that it is no part of the app's readiness. */
export type Background = (name: string, run: (work: Work) => Promise<void>, options?: { readonly beside?: boolean }) => void

const pauseMs = { first: 100, longest: 2000 } // soon enough not to be noticed, also by who waits for a server that is back; seldom enough not to be a burden

export default fp(async app => {
  const background: Background = (name, run, { beside = false } = {}) => {
    const closing = new AbortController()
    let failure: string | undefined = 'not begun yet'
    if (!beside) {
      healthOf(app).add(name, async () => {
        if (failure !== undefined) throw new Error(failure)
      })
    }

    const attempt = async () => {
      let begun = false
      try {
        await run({
          signal: closing.signal,
          ready () {
            begun = true
            failure = undefined
          },
          standby (reason) { failure = reason }
        })
      } catch (error) {
        failure = reason(error)
        app.log.warn({ err: error, work: name }, 'background work failed, will begin again')
        // Wrapped: p-retry does not try again after a TypeError, which it takes for a mistake in the code, and the loop would turn without a pause.
        if (!begun) throw new Error(failure, { cause: error })
        // It had worked: a short pause, and the backoff begins anew with the caller's loop.
        await setTimeout(pauseMs.first)
      }
    }

    const loop = async () => {
      while (!closing.signal.aborted) {
        await pRetry(attempt, { retries: Infinity, minTimeout: pauseMs.first, maxTimeout: pauseMs.longest, randomize: true, signal: closing.signal })
          .catch(() => {}) // only the closing signal ends the retries
      }
    }
    let done: Promise<void> | undefined
    app.addHook('onReady', async () => { done = loop() })
    app.addHook('onClose', async () => {
      closing.abort()
      await done
    })
  }
  app.decorate('background', background)
}, { name: 'background', dependencies: ['health'] })

export const backgroundOf = (app: FastifyInstance): Background => app.getDecorator<Background>('background')
