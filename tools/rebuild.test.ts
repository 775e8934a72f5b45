/** The command line of the rebuild; test/rebuild.test.ts has what it does. */
import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { execa } from 'execa'

t.test('Ctrl-C with npm before it, one press and two signals, lets it tell what became of the read models', async t => {
  const silent = createServer().listen(0, '127.0.0.1') // it waits for its answer
  t.teardown(() => silent.close())
  await once(silent, 'listening')
  const at = `127.0.0.1:${(silent.address() as AddressInfo).port}`
  const child = execa(process.execPath, ['tools/rebuild.ts'], { env: { POSTGRES_URL: `postgres://${at}/bifold`, KAFKA_BROKERS: at, MONGO_URL: `mongodb://${at}/bifold` }, reject: false })
  t.teardown(() => child.kill('SIGKILL'))
  const [waiting] = await once(silent, 'connection') as [Socket]
  child.kill('SIGINT')
  await setTimeout(5)
  child.kill('SIGINT')
  silent.close() // before: it would ask again at once
  waiting.destroy()
  const { exitCode, stderr } = await child
  t.equal(exitCode, 130)
  t.match(stderr, 'Interrupted: the live read models are as they were.')
})
