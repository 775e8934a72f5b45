/** Who waits for the outcome of a queued command: told by this process, or by one look for all of them now and then. */
import { setTimeout } from 'node:timers/promises'
import type { Outcomes } from './outcomes.ts'

export interface Waiters {
  /** Tells who waits that these are done. */
  tell (ids: Iterable<string>): void
  /** Resolves when the command is done, or the time is over, or the signal is given. */
  wait (id: string, milliseconds: number, signal: AbortSignal): Promise<void>
}

const lookMs = 200 // between two looks for what other gateways execute
const waitersMax = 1000 // commands that are waited for; who asks for one more is answered at once

export function makeWaiters ({ done }: Pick<Outcomes, 'done'>): Waiters {
  const waiters = new Map<string, Set<() => void>>()
  let looking = false
  const tell = (ids: Iterable<string>) => {
    for (const id of ids) for (const wake of waiters.get(id) ?? []) wake()
  }
  const look = async () => {
    if (looking) return
    looking = true
    while (waiters.size > 0) {
      await setTimeout(lookMs)
      tell(await done([...waiters.keys()]).catch(() => []))
    }
    looking = false
  }
  return {
    tell,
    async wait (id, milliseconds, signal) {
      if (waiters.size >= waitersMax || signal.aborted) return
      const { promise, resolve } = Promise.withResolvers<void>()
      const all = waiters.get(id) ?? new Set()
      waiters.set(id, all.add(resolve))
      const timer = globalThis.setTimeout(resolve, milliseconds)
      const stop = () => resolve()
      signal.addEventListener('abort', stop, { once: true })
      void look()
      await promise
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
      all.delete(resolve)
      if (all.size === 0) waiters.delete(id)
    }
  }
}
