/**
 * Who may write to MongoDB when: a few transactions of this process at a time, those of the first read model first, and one after
 * the other those of a read model whose documents several partitions share, for two at once would conflict, and one of them begin
 * again. Who has to wait finds more events at hand when its turn comes, and writes them together.
 */
import PQueue from 'p-queue'
import type { AnyProjection } from '@bifold/cqrs'

export type Turn = (work: () => Promise<void>) => Promise<void>

const transactionsMax = 4 // of 500 events each; with more at a time, on two cores, new books were seen later and not more of them applied (docs/decisions/0025-tracks.md)

/** The turns of each of these projections, of which the first has precedence. */
export function makeTurns (projections: readonly AnyProjection[]): ReadonlyMap<AnyProjection, Turn> {
  const all = new PQueue({ concurrency: transactionsMax })
  const ownMax = transactionsMax - (projections.length > 1 ? 1 : 0)
  return new Map(projections.map((projection, index) => {
    // Its own first: who waits for that takes nobody's place, and one that is held up everywhere leaves a place for the others.
    const own = new PQueue({ concurrency: projection.notes === undefined ? ownMax : 1 })
    const priority = index === 0 ? 1 : 0
    return [projection, async work => await own.add(async () => await all.add(work, { priority }))]
  }))
}
