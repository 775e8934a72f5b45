/** What every app is made with: request ids, problems, health, and background work that begins again. */
import t, { type Test } from 'tap'
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { aborted, backgroundOf, build, healthOf } from './index.ts'

async function app (t: Test, register: (app: FastifyInstance) => Promise<void>) {
  const server = await build(register, undefined, { name: 'test', logLevel: 'silent' })
  t.teardown(async () => await server.close())
  return server
}

t.test("a client's request id is kept if it is sane, and given back", async t => {
  const server = await app(t, async app => { app.get('/', async request => request.id) })
  t.equal((await server.inject({ url: '/', headers: { 'x-request-id': 'mine-1' } })).headers['x-request-id'], 'mine-1')
  t.match((await server.inject({ url: '/', headers: { 'x-request-id': 'x'.repeat(500) } })).body, /^[0-9a-f-]{36}$/)
})

t.test('an error of ours tells nothing of the inside', async t => {
  const server = await app(t, async app => { app.get('/', async () => { throw new Error('the password is secret') }) })
  const response = await server.inject('/')
  t.equal(response.statusCode, 500)
  t.notMatch(response.body, /secret/)
  t.match(response.json(), { code: 'INTERNAL', status: 500, requestId: String })
})

t.test('readiness gives the reason, and a check that hangs does not hang it', async t => {
  const server = await app(t, async app => {
    healthOf(app).add('fine', async () => {})
    healthOf(app).add('broken', async () => { throw new Error('the disk is full') })
    healthOf(app).add('hanging', async () => await new Promise(() => {}))
  })
  const response = await server.inject('/health/ready')
  t.match({ status: response.statusCode, body: response.json() }, { status: 503, body: { status: 'not ready', checks: { fine: { ok: true }, broken: { ok: false, reason: 'the disk is full' }, hanging: { ok: false, reason: /no answer within/ } } } })
  t.equal((await server.inject('/health/live')).statusCode, 200)
})

t.test('background work that fails begins again with growing pauses, and tells readiness', async t => {
  const begun: number[] = []
  const server = await app(t, async app => {
    backgroundOf(app)('work', async ({ ready, signal }) => {
      begun.push(Date.now())
      if (begun.length < 4) throw new Error(`attempt ${begun.length}`)
      ready()
      await aborted(signal)
    })
  })
  await server.ready()
  await setTimeout(20)
  t.match((await server.inject('/health/ready')).json(), { checks: { work: { ok: false, reason: 'attempt 1' } } })
  for (let n = 0; n < 500 && begun.length < 4; n++) await setTimeout(10)
  t.equal((await server.inject('/health/ready')).statusCode, 200)
  const pauses = begun.slice(1).map((time, index) => time - begun[index]!)
  t.ok(pauses[2]! > pauses[0]!, `the pauses grow: ${pauses.join(', ')} ms`)
})

t.test('work with a mistake of ours in it has its pauses, too: it leaves the others their turn, and can be closed', async t => {
  let begun = 0
  const server = await build(async app => {
    backgroundOf(app)('work', async ({ signal }) => {
      if (++begun > 100) return await aborted(signal) // else a loop without pauses would let nobody say that there is one
      return (undefined as unknown as { work (): Promise<void> }).work()
    })
  }, undefined, { name: 'test', logLevel: 'silent' })
  await server.ready()
  await setTimeout(1000)
  t.ok(begun > 1 && begun < 8, `begun ${begun} times within a second`)
  t.match((await server.inject('/health/ready')).json(), { checks: { work: { ok: false, reason: "Cannot read properties of undefined (reading 'work')" } } })
  await server.close()
})

t.test('closing waits for background work to finish what it holds', async t => {
  let finished = false
  const server = await build(async app => {
    backgroundOf(app)('work', async ({ ready, signal }) => {
      ready()
      await aborted(signal)
      await aborted(signal) // now it was given before, and goes on at once
      await setTimeout(50)
      finished = true
    })
  }, undefined, { name: 'test', logLevel: 'silent' })
  await server.ready()
  await server.close()
  t.ok(finished)
})
