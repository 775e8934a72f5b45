/** An app as a process: what happens to it when something around it fails. */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { until } from '@bifold/test'
import { runApp, untilReady } from './apps.ts'

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

t.test('an app that accepts and never answers is not waited for for ever, nor any after the signal', async t => {
  const server = createServer(socket => { socket.on('error', () => {}) }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const soon = async (work: Promise<void>) => await Promise.race([work, setTimeout(20_000, 'it still waits', { ref: false })])
  await t.rejects(soon(untilReady('gateway', url, 300)), { message: 'The gateway is not ready after 0.3 s: it does not answer' })
  t.equal(await soon(untilReady('gateway', url, 60_000, { signal: AbortSignal.timeout(300) })), undefined)
})
