/** Folding a batch gives what applying its changes one after the other gives. */
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
function write (docs: Map<string, Record<string, unknown>>, change: Change): void {
  if (change.op === 'remove') docs.delete(change.id)
  else if (change.op === 'update') {
    const doc = { ...docs.get(change.id) ?? { _id: change.id }, ...change.set } as Record<string, unknown>
    for (const [name, by] of Object.entries(change.inc)) doc[name] = Number(doc[name] ?? 0) + by
    docs.set(change.id, doc)
  } else docs.set(change.id, { ...change.doc })
}

t.test('any batch, folded, leads to the same documents', async () => {
  const id = fc.constantFrom('a', 'b')
  const fields = fc.record({ n: fc.integer({ min: 0, max: 9 }), m: fc.integer({ min: 0, max: 9 }) }, { requiredKeys: [] })
  const inc = fc.record({ n: fc.integer({ min: -3, max: 3 }), m: fc.integer({ min: -3, max: 3 }) }, { requiredKeys: [] })
  const change: fc.Arbitrary<Change> = fc.oneof(
    fc.record({ _id: id }).chain(({ _id }) => fields.map(doc => replace({ _id, ...doc }))),
    id.map(remove),
    // set and inc of one field at once is what MongoDB refuses, and the contract's update too.
    fc.tuple(id, fields).map(([id, set]) => update<Counter>(id, { set })),
    fc.tuple(id, inc).map(([id, inc]) => update(id, { inc: inc as Record<string, number> }))
  )
  fc.assert(fc.property(fc.array(change, { maxLength: 12 }), changes => {
    const [one, all] = [new Map(), new Map()]
    for (const each of changes) write(one, each)
    for (const each of fold(changes)) write(all, each)
    t.strictSame(Object.fromEntries(all), Object.fromEntries(one))
  }), { numRuns: 300 })
})
