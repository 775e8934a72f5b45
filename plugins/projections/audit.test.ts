/** The auditor: gaps and returns are breaks, repeats are not. */
import t from 'tap'
import { makeAuditor } from './audit.ts'

const feed = (auditor: ReturnType<typeof makeAuditor>, ...events: [id: string, version: number, sequence: string][]) =>
  events.flatMap(([id, version, sequence]) => auditor.next({ id, version, sequence }) ?? [])

t.test('versions that follow each other are in order, of whatever aggregates', async t => {
  t.same(feed(makeAuditor(''), ['a', 1, '01'], ['b', 7, '02'], ['a', 2, '03'], ['b', 8, '04'], ['a', 3, '05']), [])
})

t.test('a gap and a return are told, once each', async t => {
  t.same(feed(makeAuditor(''), ['a', 1, '01'], ['a', 3, '02'], ['a', 4, '03'], ['a', 3, '04'], ['a', 4, '05']), [{ id: 'a', expected: 2, found: 3 }, { id: 'a', expected: 5, found: 3 }])
})

t.test('what was seen before is no break', async t => {
  t.same(feed(makeAuditor('02'), ['a', 1, '01'], ['a', 2, '02'], ['a', 3, '03'], ['a', 2, '02'], ['a', 4, '04']), [])
})

t.test('it forgets the aggregate that has not changed for longest', async t => {
  const auditor = makeAuditor('', 2)
  t.same(feed(auditor, ['a', 1, '01'], ['b', 1, '02'], ['a', 2, '03'], ['c', 1, '04']), [])
  t.same(feed(auditor, ['b', 9, '05']), [], 'b was forgotten')
  t.same(feed(auditor, ['c', 3, '06']), [{ id: 'c', expected: 2, found: 3 }], 'c was not')
})
