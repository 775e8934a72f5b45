/** Sequences sort as the events were committed, through breaks and from topic to topic. */
import t from 'tap'
import fc from 'fast-check'
import { epochOf, generationOf, hex, isSequence, nextEpoch, sequenceAt, sequenceOf } from './sequence.ts'

t.test('a sequence sorts by epoch, then by place, then by index', async t => {
  const parts = fc.tuple(fc.nat({ max: 2 ** 31 }), fc.nat(), fc.nat({ max: 2 ** 31 }))
  fc.assert(fc.property(parts, parts, (a, b) => {
    const [first, second] = [a, b].map(([epoch, place, index]) => sequenceOf(epoch, hex(place, 16), index)) as [string, string]
    const by = a.findIndex((part, index) => part !== b[index])
    return by === -1 ? first === second : (first < second) === (a[by]! < b[by]!)
  }))
})

t.test('the sequence of a place is behind what was committed before it, and before the rest', async t => {
  t.ok(sequenceOf(1, hex(6, 16), 0xffffffff) < sequenceAt(1, hex(7, 16)))
  t.ok(sequenceAt(1, hex(7, 16)) < sequenceOf(1, hex(7, 16), 0))
})

t.test('a new epoch is of the same generation, but for another topic', async t => {
  const generation = (epoch: number) => generationOf(sequenceOf(epoch, hex(0, 16), 0))
  t.equal(generation(nextEpoch(7, { topic: 'same' })), generation(7))
  t.equal(generation(nextEpoch(7, { topic: 'another' })), generation(7) + 1)
  t.ok(nextEpoch(7, { topic: 'another' }) > 7)
  t.equal(epochOf(''), 0)
})

t.test('what nobody can have written is no sequence', async t => {
  t.ok(isSequence(sequenceOf(3, hex(1, 16), 1), 2))
  for (const text of ['', 'zzz', sequenceOf(3, hex(1, 16), 1).toUpperCase() + '0', 'ffffffff-ffffffffffffffff-00000000']) t.notOk(isSequence(text, 2), text)
})
