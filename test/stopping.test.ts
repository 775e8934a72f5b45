/** Each app is stopped under load as an orchestrator stops it: what was accepted is answered, and a rolling restart fails no request. */
import t from 'tap'
import { setTimeout } from 'node:timers/promises'
import { stores } from './pipeline.ts'
import { callAll, system } from './system.ts'

const load = { clients: 16, restMs: 5 } // moderate: what is in flight counts, not how much
const stopMaxMs = 10_000 // below the 15 s after which an app ends by force

t.test('a rolling restart of two of each fails no request', async t => {
  const all = await system(t, await stores(t), { gateway: 2, relay: 2, projector: 2, query: 2 })
  const running = all.load(load)
  const calls = callAll(all, { callers: 8, restMs: 2 })
  for (let round = 0; round < 2; round++) {
    for (const member of all.members) {
      await setTimeout(500) // some work between two restarts
      const { exitCode, tookMs } = await member.stop()
      t.equal(exitCode, 0, `${member.app} ends by itself`)
      t.ok(tookMs < stopMaxMs, `${member.app} ended after ${tookMs} ms`)
      t.comment(`${member.app} ended after ${tookMs} ms`)
      await member.start({ ready: member.app !== 'relay' })
    }
  }
  await calls.stop()
  const record = await running.stop()
  const failed = running.seen.filter(({ status, error }) => error !== undefined || status! >= 500)
  t.comment(`${running.seen.length} requests over HTTP, ${calls.answered} calls over gRPC`)
  t.same(failed.map(({ to, url, status, error }) => `${to} ${url} ${status ?? ''} ${error ?? ''}`), [], 'each request over HTTP was answered')
  t.same(calls.failed.map(({ error }) => error.message), [], 'each call over gRPC was answered')
  await all.verdict(t, record)
})
