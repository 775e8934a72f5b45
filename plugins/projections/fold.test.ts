/** Folding a batch gives what applying its changes one after the other gives. */
import assert from 'node:assert/strict'
import t from 'tap'
import fc from 'fast-check'
import { insert, remove, replace, update, type Change, type Document } from '@bifold/cqrs'
import { fold } from './fold.ts'

interface Counter extends Document { n?: number, m?: number }

t.test('the last whole document wins, and what was new stays new', async t => {
  t.same(fold([insert({ _id: 'a', n: 1 }), replace({ _id: 'a', n: 2 })]), [insert({ _id: 'a', n: 2 })])
  t.same(fold([replace({ _id: 'a' }), remove('a')]), [remove('a')])
  t.same(fold([remove('a'), insert({ _id: 'a' })]), [replace({ _id: 'a' })])
})

t.test('counters add up', async t => {
  t.same(fold([update('a', { inc: { n: 1 } }), update('a', { inc: { n: 2 } })]), [update('a', { inc: { n: 3 } })])
  t.same(fold([update<Counter>('a', { set: { n: 5 } }), update('a', { inc: { n: 2 } })]), [update<Counter>('a', { set: { n: 7 } })])
})

// What MongoDB does with one change.
function write (docs: Map<string, Record<string, any>>, change: Change): void {
  if (change.op === 'remove') docs.delete(change.id)
  else if (change.op === 'update') {
    const doc = structuredClone(docs.get(change.id) ?? { _id: change.id }) as Record<string, any>
    const place = (path: string, make: boolean) => {
      const names = path.split('.')
      const last = names.pop()!
      let at: Record<string, any> | undefined = doc
      for (const name of names) at = at && (at[name] ??= make ? {} : undefined)
      return { at, last }
    }
    for (const [path, value] of Object.entries(change.set)) {
      const { at, last } = place(path, true)
      at![last] = value
    }
    for (const [path, by] of Object.entries(change.inc)) {
      const { at, last } = place(path, true)
      at![last] = Number(at![last] ?? 0) + by
    }
    for (const path of change.unset) {
      const { at, last } = place(path, false)
      if (at !== undefined) delete at[last]
    }
    docs.set(change.id, JSON.parse(JSON.stringify(doc)))
  } else docs.set(change.id, { ...change.doc })
}

/** A field that was made and taken away again leaves its parent, which the fold does not make: whoever reads a field in it sees no difference. */
const withoutEmpty = (docs: Map<string, Record<string, any>>) => Object.fromEntries([...docs].map(([id, { o, ...doc }]) =>
  [id, o === undefined || Object.keys(o).length === 0 ? doc : { ...doc, o }]))

t.test('any batch, folded, leads to the same documents, and no two paths of an update overlap', async () => {
  const id = fc.constantFrom('a', 'b')
  const number = fc.integer({ min: 0, max: 9 })
  const inner = fc.record({ a: number, b: number }, { requiredKeys: [], noNullPrototype: true })
  const fields = fc.record({ n: number, m: number, o: inner }, { requiredKeys: [], noNullPrototype: true })
  const path = fc.constantFrom('n', 'm', 'o', 'o.a', 'o.b')
  // Of one update, no two paths overlap: MongoDB refuses that, and so does the contract.
  const one = fc.oneof(
    fc.tuple(path, number, inner).map(([path, value, within]) => ({ set: { [path]: path === 'o' ? within : value } })),
    fc.tuple(path.filter(path => path !== 'o'), fc.integer({ min: -3, max: 3 })).map(([path, by]) => ({ inc: { [path]: by } })),
    path.map(path => ({ unset: [path] })),
    fc.tuple(number, fc.integer({ min: -3, max: 3 })).map(([n, by]) => ({ set: { n }, inc: { 'o.a': by }, unset: ['o.b'] }))
  )
  const change: fc.Arbitrary<Change> = fc.oneof(
    fc.record({ _id: id }).chain(({ _id }) => fields.map(doc => replace({ _id, ...doc }))),
    id.map(remove),
    fc.tuple(id, one).map(([id, changes]) => update(id, changes as never)),
    fc.tuple(id, one).map(([id, changes]) => update(id, changes as never))
  )
  fc.assert(fc.property(fc.array(change, { maxLength: 12 }), changes => {
    const [one, all] = [new Map(), new Map()]
    const folded = fold(changes)
    for (const each of changes) write(one, each)
    for (const each of folded) write(all, each)
    assert.deepEqual(withoutEmpty(all), withoutEmpty(one))
    for (const each of folded) {
      if (each.op !== 'update') continue
      const paths = [...Object.keys(each.set), ...Object.keys(each.inc), ...each.unset]
      for (const path of paths) assert.equal(paths.filter(other => other === path || other.startsWith(`${path}.`)).length, 1, paths.join())
    }
  }), { numRuns: 2000 })
})
