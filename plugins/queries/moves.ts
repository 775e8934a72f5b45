/** Tells when a read model has moved on: one change stream on the projector's checkpoints for all who wait, and none while nobody does. */
import type { ChangeStream, Db } from 'mongodb'

export interface Moves {
  /** Calls the listener soon after each step of a read model, and once when nothing can be missed any more; gives the function that ends that. */
  follow (collection: string, listener: () => void): () => void
  close (): Promise<void>
}

const lingerMs = 10_000 // that the stream stays open when nobody waits: to open one takes some ms, in which who waits could miss a step
const againMs = 500 // after a fault of the stream; meanwhile those who wait look for themselves

export function makeMoves (db: Db): Moves {
  const listeners = new Map<() => void, string>()
  let stream: ChangeStream | undefined
  let [opening, lingering]: [NodeJS.Timeout | undefined, NodeJS.Timeout | undefined] = [undefined, undefined]
  let [established, closed] = [false, false]

  const end = async () => {
    const ended = stream
    stream = undefined
    established = false
    await ended?.close().catch(() => {})
  }
  const open = () => {
    opening = undefined
    if (stream !== undefined || closed || listeners.size === 0) return
    const opened = db.collection('checkpoints').watch([{ $project: { documentKey: 1, operationType: 1 } }])
    stream = opened
    opened.on('resumeTokenChanged', () => {
      if (established || stream !== opened) return
      established = true
      for (const listener of listeners.keys()) listener()
    })
    const again = () => {
      if (stream === opened) void end()
      opening ??= setTimeout(open, againMs).unref()
    }
    opened.on('change', change => {
      if (change.operationType === 'invalidate') return again() // the collection is gone, and with it the stream, which says no more
      const [collection] = String((change as { documentKey?: { _id: unknown } }).documentKey?._id ?? '').split('/')
      for (const [listener, of] of listeners) if (of === collection) listener()
    })
    opened.on('error', again)
  }
  return {
    follow (collection, listener) {
      listeners.set(listener, collection)
      clearTimeout(lingering)
      if (opening === undefined) open()
      if (established) listener()
      return () => {
        listeners.delete(listener)
        if (listeners.size === 0) lingering = setTimeout(() => { void end() }, lingerMs).unref()
      }
    },
    async close () {
      closed = true
      clearTimeout(opening)
      clearTimeout(lingering)
      await end()
    }
  }
}
