/** Turns: four at a time, the first read model first, and one at a time of a read model with notes. */
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { projection, type AnyProjection } from '@bifold/cqrs'
import { makeTurns } from './turns.ts'

const [first, noted, other] = ['first', 'noted', 'other'].map((collection): AnyProjection => projection<any, any, any>({ collection, indexes: [], on: {}, ...collection === 'noted' ? { notes: () => [] } : {} })) as [AnyProjection, AnyProjection, AnyProjection]

function turns (projections = [first, noted, other]) {
  const made = makeTurns(projections)
  const begun: string[] = []
  const gates: PromiseWithResolvers<void>[] = []
  const begin = (...wanted: AnyProjection[]) => wanted.map(async projection => await made.get(projection)!(async () => {
    begun.push(projection.collection)
    gates.push(Promise.withResolvers())
    await gates.at(-1)!.promise
  }))
  /** Ends a turn, and tells which have begun since. */
  const end = async (index: number, fault?: Error) => {
    const before = begun.length
    if (fault === undefined) gates[index]!.resolve()
    else gates[index]!.reject(fault)
    await setImmediate()
    return begun.slice(before)
  }
  return { begin, begun, end }
}

t.test('four at a time, three of one read model; of those that wait the first read model goes first, the others as they came', async t => {
  const { begin, begun, end } = turns()
  begin(other, other, other, other)
  await setImmediate()
  t.same(begun, ['other', 'other', 'other'], 'a place is left')
  begin(noted, other, first)
  await setImmediate()
  t.same(begun.slice(3), ['noted'])
  t.same([await end(3), await end(0), await end(1), await end(2)], [['first'], ['other'], ['other'], []])
})

t.test('one that is alone has all four', async t => {
  const { begin, begun, end } = turns([other])
  begin(other, other, other, other, other)
  await setImmediate()
  t.equal(begun.length, 4)
  t.same(await end(0), ['other'])
})

t.test('a read model with notes has one turn at a time, and its others take no place meanwhile; a fault ends a turn too', async t => {
  const { begin, begun, end } = turns()
  const [one] = begin(noted, noted, noted, noted, other)
  await setImmediate()
  t.same(begun, ['noted', 'other'])
  const failed = t.rejects(one!, { message: 'away' })
  t.same(await end(0, new Error('away')), ['noted'])
  await failed
})
