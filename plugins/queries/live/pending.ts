/** The changes of a filter that are still to be told: the last of each document, and only those that concern it. */
import sift from 'sift'
import type { Document } from 'mongodb'
import type { Step } from './changes.ts'

export type Matches = (document: Document) => boolean

/** The filter as MongoDB understands it, for documents that are here. */
export const matcher = (where: Readonly<Record<string, unknown>>): Matches => sift.default(where)

/** What a document was before, if that is known; `undefined` for none. */
export type Before = { readonly known: true, readonly document: Document | undefined } | { readonly known: false }

export function makePending (matches: Matches) {
  const last = new Map<string, { readonly document: Document | undefined, readonly bytes: number }>()
  let bytes = 0
  return {
    add ({ id, after, bytes: size }: Step, before: Before) {
      if (id === undefined) return
      const matching = after !== undefined && matches(after)
      const earlier = last.get(id)
      // One that has never matched is nobody's: where that is not known, it is told as removed once too often.
      if (!matching && earlier === undefined && before.known && (before.document === undefined || !matches(before.document))) return
      bytes += (matching ? size : id.length) - (earlier?.bytes ?? 0)
      last.set(id, matching ? { document: after, bytes: size } : { document: undefined, bytes: id.length })
    },
    get bytes () { return bytes },
    get size () { return last.size },
    take () {
      const [changed, removed]: [Document[], string[]] = [[], []]
      for (const [id, { document }] of last) {
        if (document === undefined) removed.push(id)
        else changed.push(document)
      }
      last.clear()
      bytes = 0
      return { changed, removed }
    }
  }
}

export type Pending = ReturnType<typeof makePending>
