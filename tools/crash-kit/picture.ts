/** The picture that one who watches has of the catalogue: made from a snapshot and the changes after it, each of which may come once, and in order. */
import type { booksV1 } from '@bifold/proto'

type Told = Pick<booksV1.WatchBooksResponse, 'snapshotBegins' | 'books' | 'removedIds'>

export interface Picture {
  /** Each book's version. */
  readonly versions: ReadonlyMap<string, number>
  readonly snapshots: number
  readonly changes: number
  readonly doubled: readonly string[]
  readonly reordered: readonly string[]
  take (told: Told): void
  /** What is other than in the catalogue. */
  differences (catalogue: ReadonlyMap<string, number>): string[]
}

export function makePicture (): Picture {
  const versions = new Map<string, number>()
  // Longer than the picture: a snapshot counts anew what was told, and does not go back either.
  const latest = new Map<string, number>()
  const [doubled, reordered]: [string[], string[]] = [[], []]
  let [snapshots, changes] = [0, 0]
  const show = ({ id, version }: { id: string, version: number }) => {
    const [shown, before] = [versions.get(id), latest.get(id) ?? 0]
    if (version === shown) doubled.push(`${id}/${version}`)
    if (version < before) reordered.push(`${id}/${version} after ${before === Infinity ? 'its removal' : `version ${before}`}`)
    versions.set(id, version)
    latest.set(id, Math.max(version, before))
  }
  return {
    versions,
    doubled,
    reordered,
    get snapshots () { return snapshots },
    get changes () { return changes },
    take ({ snapshotBegins, books, removedIds }) {
      if (snapshotBegins) {
        snapshots++
        versions.clear()
      }
      changes += books.length + removedIds.length
      for (const book of books) show(book)
      for (const id of removedIds) { // perhaps told more than once, and of one that was never shown: that is promised to nobody
        versions.delete(id)
        latest.set(id, Infinity) // a book that is withdrawn stays so
      }
    },
    differences: catalogue => [...new Set([...catalogue.keys(), ...versions.keys()])].filter(id => catalogue.get(id) !== versions.get(id))
      .map(id => `${id}: version ${versions.get(id) ?? 'none'} instead of ${catalogue.get(id) ?? 'none'}`)
  }
}
