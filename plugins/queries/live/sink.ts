/** What is written to one who watches, and how much of it waits: whoever does not take it is ended. */
import { WatcherTooSlow } from '@bifold/cqrs'

/** A stream to one client. */
export interface Outlet {
  /** Writes a message, and calls back when it is on its way. */
  write (message: Uint8Array, written: () => void): void
}

export interface Sink {
  /** @throws WatcherTooSlow */
  send (message: Uint8Array): void
  /** Bytes that wait. */
  readonly unsent: number
  /** Resolves when little waits. @throws WatcherTooSlow, or the signal's reason: who is gone takes nothing more */
  drained (signal: AbortSignal): Promise<void>
}

const bytesMax = 1024 * 1024 // 7 s of 500 changes/s of usual books
const fairBytes = 64 * 1024 // which each may have, whatever the others have
const littleBytes = 256 * 1024
const patienceMs = 30_000 // for a part of a snapshot to be taken
const allBytesMax = 256 * 1024 * 1024 // of all watchers of the process

/** Makes sinks that share one bound. */
export function makeSinks () {
  let all = 0
  return (outlet: Outlet): Sink & { close (): void } => {
    let unsent = 0
    let closed = false
    let wake = () => {}
    return {
      get unsent () { return unsent },
      send (message) {
        const { byteLength } = message
        if (unsent + byteLength > bytesMax || (all + byteLength > allBytesMax && unsent + byteLength > fairBytes)) {
          if (unsent > 0) throw new WatcherTooSlow() // one message, however large, is let through
        }
        unsent += byteLength
        all += byteLength
        outlet.write(message, () => {
          if (closed) return
          unsent -= byteLength
          all -= byteLength
          if (unsent < littleBytes) wake()
        })
      },
      async drained (signal) {
        signal.throwIfAborted()
        if (unsent < littleBytes || closed) return
        const { promise, resolve, reject } = Promise.withResolvers<void>()
        const timer = setTimeout(() => reject(new WatcherTooSlow()), patienceMs)
        const gone = () => reject(signal.reason)
        wake = resolve
        signal.addEventListener('abort', gone)
        await promise.finally(() => {
          clearTimeout(timer)
          signal.removeEventListener('abort', gone)
        })
      },
      close () {
        if (closed) return
        closed = true
        all -= unsent
        wake()
      }
    }
  }
}
