/** Folds the changes of a batch to one for each document: what is written is the outcome, not the way to it. */
import type { Change, Document, Fields } from '@bifold/cqrs'
import { changedAt, pathWithin, withoutAt } from './paths.ts'

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

function updated (before: Change, next: Update): Change {
  switch (before.op) {
    case 'insert':
    case 'replace': return { ...before, doc: changed(before.doc, next) }
    case 'remove': return { op: 'replace', id: next.id, doc: changed({ _id: next.id }, next) }
    case 'update': return merged(before, next)
  }
}

const plus = (by: number) => (before: unknown) => Number(before ?? 0) + by

function changed (doc: Document, { set, inc, unset }: Update): Document {
  let fields = doc as unknown as Readonly<Record<string, unknown>>
  for (const path of unset) fields = withoutAt(fields, path)
  for (const [path, value] of Object.entries(set)) fields = changedAt(fields, path, () => value)
  for (const [path, by] of Object.entries(inc)) fields = changedAt(fields, path, plus(by))
  return fields as unknown as Document
}

/** Two updates as one, in which no two paths overlap: MongoDB takes a field in one of $set, $inc and $unset only, and none within another. */
function merged (before: Update, next: Update): Change {
  const set: Record<string, unknown> = { ...before.set }
  const inc: Record<string, number> = { ...before.inc }
  const unset = new Set(before.unset)
  const outerIn = (paths: Iterable<string>, path: string) => [...paths].find(outer => pathWithin(outer, path) !== undefined)

  /** Forgets what was to become of a field and of those within it. */
  const clear = (path: string) => {
    for (const known of [set, inc]) for (const inner of Object.keys(known)) if (inner === path || pathWithin(path, inner) !== undefined) delete known[inner]
    for (const inner of unset) if (inner === path || pathWithin(path, inner) !== undefined) unset.delete(inner)
  }
  const put = (path: string, change: (before: unknown) => unknown) => {
    const outer = outerIn(Object.keys(set), path) ?? outerIn(unset, path)
    const value = outer === undefined ? change(set[path]) : changedAt((set[outer] ?? {}) as Fields<Document>, pathWithin(outer, path)!, change)
    clear(outer ?? path)
    set[outer ?? path] = value
  }

  for (const path of next.unset) {
    const outer = outerIn(Object.keys(set), path)
    if (outer !== undefined) set[outer] = withoutAt((set[outer] ?? {}) as Fields<Document>, pathWithin(outer, path)!)
    else if (outerIn(unset, path) === undefined) {
      clear(path)
      unset.add(path)
    }
  }
  for (const [path, value] of Object.entries(next.set)) put(path, () => value)
  for (const [path, by] of Object.entries(next.inc)) {
    // A counter that was set in this batch counts on from there.
    const isKnown = path in set || unset.has(path) || outerIn(Object.keys(set), path) !== undefined || outerIn(unset, path) !== undefined
    if (isKnown) put(path, plus(by))
    else inc[path] = (inc[path] ?? 0) + by
  }
  return { op: 'update', id: next.id, set: set as Fields<Document>, inc, unset: [...unset] }
}
