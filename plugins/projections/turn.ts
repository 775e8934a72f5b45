/** Transactions of this process on one read model whose documents several partitions share: one after the other, for two at once would conflict, and one of them begin again. */
import type { AnyProjection } from '@bifold/cqrs'

const turns = new Map<string, Promise<unknown>>()

/** Does a work when those before it are done, if the projection keeps notes: then its documents are of several aggregates. */
export async function inTurn<T> ({ collection, notes }: AnyProjection, work: () => Promise<T>): Promise<T> {
  if (notes === undefined) return await work()
  const turn = (turns.get(collection) ?? Promise.resolve()).then(work, work)
  turns.set(collection, turn)
  try {
    return await turn
  } finally {
    if (turns.get(collection) === turn) turns.delete(collection)
  }
}
