/** Audits the order: the versions of an aggregate follow each other, without a gap and without going back. */
import { LRUCache } from 'lru-cache'
import type { Envelope } from '@bifold/cqrs'

/** Versions that do not follow each other. */
export interface OrderBreak { readonly id: string, readonly expected: number, readonly found: number }

export interface Auditor {
  /** Looks at the next event of the partition; what was seen before, by its sequence, is passed over. */
  next (event: Pick<Envelope, 'id' | 'version' | 'sequence'>): OrderBreak | undefined
}

const rememberedMax = 10_000 // aggregates of a partition, some 1 MB: those that change now; of others the first event seen is believed

/** An auditor of one partition, from `sequence` on. */
export function makeAuditor (sequence: string, max = rememberedMax): Auditor {
  const versions = new LRUCache<string, number>({ max })
  let last = sequence
  return {
    next ({ id, version, sequence }) {
      if (sequence <= last) return undefined
      last = sequence
      const before = versions.get(id)
      versions.set(id, version)
      return before === undefined || version === before + 1 ? undefined : { id, expected: before + 1, found: version }
    }
  }
}
