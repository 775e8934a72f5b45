/** An app as a process: what happens to it when something around it fails. */
import { existsSync } from 'node:fs'
import t from 'tap'
import { until } from '@bifold/test'
import { runApp } from './apps.ts'

t.test('an app whose log cannot be written runs on, and is not held up by what it says', async t => {
  const dir = t.testdir({
    log: {}, // a folder: nothing can be written to it, as on a disk that is full
    'talks.ts': `
      import { writeFileSync, writeSync } from 'node:fs'
      process.on('SIGTERM', () => process.exit())
      setInterval(() => {}, 1000)
      for (let n = 0; n < 1000; n++) for (const output of [1, 2]) writeSync(output, 'x'.repeat(1000) + '\\n') // more than a pipe holds; waits as pino does
      writeFileSync(process.env.SAID, '')`
  })
  const told: string[] = []
  const { stop } = runApp('relay', { env: { SAID: `${dir}/said` }, log: `${dir}/log`, label: 'relay', main: `${dir}/talks.ts`, say: sentence => told.push(sentence) })
  t.teardown(stop)
  await until(async () => existsSync(`${dir}/said`), 'the app to have said everything')
  await stop()
  t.match(told, [/^The log of relay cannot be written \(EISDIR.*\): it runs on without$/])
  t.equal(told.length, 1, 'it is said once')
})
