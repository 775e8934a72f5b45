/** Ids: well formed, different, and in the order in which they were made. */
import t from 'tap'
import { validate, version } from 'uuid'
import { newId } from './ids.ts'

t.test('ids rise, also within a millisecond and beyond the pool of random bytes', async t => {
  const ids = Array.from({ length: 5000 }, newId)
  t.ok(ids.every(id => validate(id) && version(id) === 7))
  t.same(ids, ids.toSorted())
  t.equal(new Set(ids).size, ids.length)
  t.equal(new Set(ids.map(id => id.slice(24))).size, ids.length, 'the random part is never used twice')
})
