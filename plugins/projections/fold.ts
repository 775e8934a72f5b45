/** Folds the changes of a batch to one for each document: what is written is the outcome, not the way to it. */
import type { Change, Document } from '@bifold/cqrs'

/** The net change of each document, in the order in which they first came. */
export function fold (changes: readonly Change[]): Change[] {
  const net = new Map<string, Change>()
  for (const change of changes) {
    const before = net.get(change.id)
    net.set(change.id, before === undefined ? change : then(before, change))
  }
  return [...net.values()]
}

function then (before: Change, next: Change): Change {
  switch (next.op) {
    case 'remove': return next
    // What was new in this batch is still new with another content.
    case 'insert':
    case 'replace': return { op: before.op === 'insert' ? 'insert' : 'replace', id: next.id, doc: next.doc }
    case 'update': return updated(before, next)
  }
}

type Update = Extract<Change, { op: 'update' }>

function updated (before: Change, { id, set, inc }: Update): Change {
  switch (before.op) {
    case 'insert':
    case 'replace': return { ...before, doc: added({ ...before.doc, ...set }, inc) }
    case 'remove': return { op: 'replace', id, doc: added({ _id: id, ...set }, inc) }
    case 'update': {
      // A counter that was set in this batch counts on from there; MongoDB takes a field in $set or in $inc, not in both.
      const allSet = { ...before.set, ...set } as Record<string, unknown>
      const allInc = Object.fromEntries(Object.entries(before.inc).filter(([name]) => !(name in set)))
      for (const [name, by] of Object.entries(inc)) {
        if (name in allSet) allSet[name] = Number(allSet[name] ?? 0) + by
        else allInc[name] = (allInc[name] ?? 0) + by
      }
      return { op: 'update', id, set: allSet as Partial<Document>, inc: allInc }
    }
  }
}

function added (doc: Document, inc: Readonly<Record<string, number>>): Document {
  const counted: Record<string, unknown> = { ...doc }
  for (const [name, by] of Object.entries(inc)) counted[name] = Number(counted[name] ?? 0) + by
  return counted as unknown as Document
}
