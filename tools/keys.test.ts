/** What the keys of lines promise: the same in every run, and never the same for two lines. */
import t from 'tap'
import { makeKeys } from './keys.ts'

const file = ['{"a":1}', '{"b":2}', '{"a":1}', '{"a":1}']

t.test('the same file has the same keys in every run', async t => {
  t.same(file.map(makeKeys()), file.map(makeKeys()))
})

t.test('equal lines have different keys, and a line has the same key wherever it stands', async t => {
  const keys = file.map(makeKeys())
  t.equal(new Set(keys).size, file.length)
  t.equal(makeKeys()('{"b":2}'), keys[1])
  for (const key of keys) t.match(key, /^[\x21-\x7e]{1,200}$/, 'what the gateway takes as a key')
})
