/** Since when a reader of a topic is behind, as far as somebody can tell who looks at both now and then. */

/** The end of each partition. */
export type Ends = ReadonlyMap<number, number>

/** One that never sees the reader at the end does not take it for standing still: what waits now may have come a moment ago. */
export function makeBehind () {
  let seen: { readonly since: number, readonly ends: Ends } | undefined
  return {
    /** Told where the partitions end now, and how many messages before such ends are not done. */
    look (ends: Ends, left: (ends: Ends) => number) {
      if (left(ends) === 0) seen = undefined
      // What was there then is done: whatever is not has come since.
      else if (seen === undefined || left(seen.ends) === 0) seen = { since: Date.now(), ends }
    },
    /** When the oldest of what waits was seen for the first time, in milliseconds since 1970; infinity if nothing waits. */
    get since (): number { return seen?.since ?? Infinity }
  }
}
