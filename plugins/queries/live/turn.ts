/** So many are brought up to date at a time; the others wait, in the order in which they came, for as long as they want to. */

export interface Turn {
  end (): void
  /** Waits for something else than reading, and lets others go on if that takes long. */
  rest (done: Promise<void>): Promise<void>
}

const restMs = 1000 // that one may hold its turn without reading, since its client takes nothing; then others go on

/** Resolves when it is its turn; rejects with the signal's reason. */
export function makeTurn (max: number) {
  let taken = 0
  const waiting = new Set<() => void>() // no more than there are watchers
  const take = async (signal: AbortSignal) => {
    signal.throwIfAborted()
    if (taken < max) {
      taken++
      return
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const gone = () => {
      if (waiting.delete(resolve)) reject(signal.reason)
    }
    waiting.add(resolve)
    signal.addEventListener('abort', gone)
    await promise.finally(() => signal.removeEventListener('abort', gone))
  }
  const give = () => {
    const [next] = waiting
    if (next === undefined) {
      taken--
      return
    }
    waiting.delete(next)
    next()
  }
  return async (signal: AbortSignal): Promise<Turn> => {
    await take(signal)
    let mine = true
    const end = () => {
      if (mine) give()
      mine = false
    }
    return {
      end,
      async rest (done) {
        const late = setTimeout(end, restMs)
        await done.finally(() => clearTimeout(late))
        if (mine) return
        await take(signal)
        mine = true
      }
    }
  }
}
