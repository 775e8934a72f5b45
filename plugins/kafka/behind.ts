/** How far the readers of a topic are behind, and since when, as far as somebody can tell who looks at both now and then. */

/** What Kafka says of a partition. */
interface Range { readonly partition: number, readonly low: string, readonly high: string }

/** Where a reader stands in a partition: the first message that it has not done. */
type Reader = (range: Range) => number

/** One that never sees the readers at the end does not take them for standing still: what waits now may have come a moment ago. */
export function makeBehind () {
  let seen: { readonly since: number, readonly ends: ReadonlyMap<number, number> } | undefined
  return {
    /** Looks at the topic and its readers as they are now; gives how many messages the one that is furthest behind has not done. */
    look (ranges: readonly Range[], readers: readonly Reader[]): number {
      const ends = new Map(ranges.map(({ partition, high }) => [partition, Number(high)]))
      // A topic that was made anew may be shorter than it was when it was seen.
      const before = (then: ReadonlyMap<number, number>) => Math.max(0, ...readers.map(next => ranges.reduce((sum, range) =>
        sum + Math.max(0, Math.min(then.get(range.partition) ?? 0, Number(range.high)) - next(range)), 0)))
      const left = before(ends)
      if (left === 0) seen = undefined
      // What was there then is done: whatever is not has come since.
      else if (seen === undefined || before(seen.ends) === 0) seen = { since: Date.now(), ends }
      return left
    },
    /** When the oldest of what waits was seen for the first time, in milliseconds since 1970; infinity if nothing waits. */
    get since (): number { return seen?.since ?? Infinity }
  }
}
