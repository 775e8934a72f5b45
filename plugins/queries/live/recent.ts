/** Documents as they were when they last changed, as many as there is room for: what a change has changed is known from here. */
import type { Document } from 'mongodb'
import type { Step } from './changes.ts'
import type { Before } from './pending.ts'

const bytesMax = 32 * 1024 * 1024 // some 60,000 usual documents, each a few times as large here

export function makeRecent () {
  const documents = new Map<string, { readonly document: Document | undefined, readonly bytes: number }>() // the longest unchanged first
  let bytes = 0
  const forget = (id: string) => {
    bytes -= documents.get(id)?.bytes ?? 0
    documents.delete(id)
  }
  const clear = () => {
    documents.clear()
    bytes = 0
  }
  return {
    /** Takes the place of what was known of the document, or of all, and tells it. */
    replace ({ id, after, isNew, isLater, bytes: size }: Step): Before {
      if (id === undefined) {
        clear()
        return { known: false }
      }
      const earlier = documents.get(id)
      forget(id)
      // What was read later may be what the next change makes of it, which whoever was told of neither has to be told.
      if (!isLater) {
        documents.set(id, { document: after, bytes: size + id.length })
        bytes += size + id.length
      }
      for (const oldest of documents.keys()) {
        if (bytes <= bytesMax) break
        forget(oldest)
      }
      if (isNew) return { known: true, document: undefined }
      return earlier === undefined ? { known: false } : { known: true, document: earlier.document }
    },
    clear
  }
}
