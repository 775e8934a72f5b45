/** What a watcher's picture finds fault with, and what it takes. */
import t from 'tap'
import { makePicture } from './picture.ts'

const told = (books: Readonly<{ [id: string]: number }>, { snapshotBegins = false, removedIds = [] as string[] } = {}) =>
  ({ snapshotBegins, removedIds, books: Object.entries(books).map(([id, version]) => ({ id, version, title: '', authors: [] })) })
const faults = ({ doubled, reordered }: ReturnType<typeof makePicture>) => ({ doubled, reordered })

function pictureOf (...all: readonly ReturnType<typeof told>[]) {
  const picture = makePicture()
  for (const one of all) picture.take(one)
  return picture
}

const snapshot = told({ a: 1, b: 2 }, { snapshotBegins: true })

t.test('a snapshot and the changes after it are the catalogue', async t => {
  const picture = pictureOf(snapshot, told({ a: 2 }), told({ c: 1, a: 5 }, { removedIds: ['b', 'b', 'never shown'] }))
  t.same(picture.differences(new Map([['a', 5], ['c', 1]])), [])
  t.same(faults(picture), { doubled: [], reordered: [] })
  t.match(picture, { snapshots: 1, changes: 8 })
})

t.test('a new snapshot counts anew what was told, and forgets what it does not show', async t => {
  const picture = pictureOf(snapshot, snapshot, told({ b: 2 }, { snapshotBegins: true }))
  t.same(faults(picture), { doubled: [], reordered: [] })
  t.same(picture.differences(new Map([['b', 2]])), [])
})

t.test('a change that did not come is missing at the end, as is a removal', async t => {
  t.same(pictureOf(snapshot).differences(new Map([['a', 2], ['c', 1]])), ['a: version 1 instead of 2', 'c: version none instead of 1', 'b: version 2 instead of none'])
})

t.test('a change that comes twice is doubled', async t => {
  t.same(faults(pictureOf(snapshot, told({ a: 2 }), told({ a: 2 }))), { doubled: ['a/2'], reordered: [] })
})

t.test('a change that goes back is reordered, also in a new snapshot and after a removal', async t => {
  t.same(faults(pictureOf(snapshot, told({ b: 1 }))).reordered, ['b/1 after version 2'])
  t.same(faults(pictureOf(told({ a: 7 }, { snapshotBegins: true }), snapshot)).reordered, ['a/1 after version 7'])
  t.same(faults(pictureOf(snapshot, told({}, { removedIds: ['a'] }), told({ a: 2 }))).reordered, ['a/2 after its removal'])
})
