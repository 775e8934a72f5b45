/** A watcher whose turn has not come: it is told that it is not forgotten, and may leave. */
import t from 'tap'
import { mock } from 'node:test'
import { makeTurn } from './turn.ts'
import { watch, type Watcher } from './watcher.ts'

t.test('while it waits it hears something in time, as long as it takes that', async t => {
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const turn = makeTurn(1)
  await turn(new AbortController().signal) // and never ends
  const leaving = new AbortController()
  const sent: unknown[] = []
  let unsent = 0
  const subject = { encode: (news: unknown) => { sent.push(news); return new Uint8Array() } }
  const sink = { send () {}, get unsent () { return unsent }, drained: async () => {} }
  const ended = watch({ subject, sink, signal: leaving.signal, turn } as unknown as Watcher, '')
  mock.timers.tick(10_000)
  t.same(sent, [{ begins: false, changed: [], removed: [], resumeToken: '' }])
  unsent = 1
  mock.timers.tick(10_000)
  t.equal(sent.length, 1)
  leaving.abort(new Error('gone'))
  await t.rejects(ended, { message: 'gone' })
  unsent = 0
  mock.timers.tick(10_000)
  t.equal(sent.length, 1)
})
