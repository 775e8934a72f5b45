/** Each bug that can be planted has its place in the code as it is now. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { bugs } from './bugs.ts'

for (const [name, { file, right, wrong }] of Object.entries(bugs)) {
  t.test(name, async t => {
    t.equal(readFileSync(file, 'utf8').split(right).length, 2, `once in ${file}`)
    t.not(wrong, right)
  })
}
