/** Tokens: what a read costs that has to show a command, and how long it waits for one that was just answered. */
import { performance } from 'node:perf_hooks'
import { Pool } from 'undici'
import { writeToken } from '@bifold/cqrs'
import { sample } from '../books.ts'
import { latenciesOf, makeHistogram } from '../load/latencies.ts'
import { runGrpc } from '../load/grpc.ts'
import { pipelineOf } from '../pipeline.ts'
import { bars, comparison, compare, number, ratioOf, tenth, type Bench, type Measured, type Scenario } from '../scenario.ts'
import { addProjected } from '../seed.ts'
import { getBook } from './reads.ts'

const concurrency = 200 // calls in flight
const connections = 2 // of gRPC
const count = 8000 // books
const callers = 4 // that write and then read what they have written: few, so that it is the wait that is measured and not a queue

export const tokens: Scenario = {
  name: 'tokens',
  async run (bench) {
    const { env } = bench
    const stores = await env.stores()
    const ids = await addProjected(stores, count)
    const query = await env.start('query', stores.env)
    const load = getBook(query, ids)
    const own = ids.map(id => writeToken('', { aggregate: 'books', id, version: 1 }))
    const others = own.map((_, index) => own[(index + 1) % own.length]!)
    const run = (tokens?: readonly string[]) => async (durationMs: number) => await runGrpc({ ...load, ...tokens === undefined ? {} : { tokens }, concurrency, connections, durationMs })
    const measured = await compare([
      { name: 'without a token', run: run() },
      { name: 'with its own token', run: run(own) },
      { name: 'with another\'s token', run: run(others) }
    ], bench)
    await query.stop()
    await stores.remove()
    const { answered, seen, stale } = await writeThenRead(bench)
    const [plain, fresh, other] = measured as [Measured, Measured, Measured]
    const [committed, shown] = [latenciesOf(answered), latenciesOf(seen)]
    return {
      scenario: 'tokens',
      title: 'Read your writes',
      sentence: `A GetBook with the book's own token runs at ${ratioOf(fresh, plain)} of one without, with another's at ${ratioOf(other, plain)}; a read right after a command, with its token, answers after ${tenth(shown.p50)} ms (p50) and ${tenth(shown.p99)} ms (p99).`,
      tables: [comparison(measured, 'reads'), {
        columns: ['one after the other', 'p50 ms', 'p99 ms', 'times'],
        rows: [['the command', tenth(committed.p50), tenth(committed.p99), number(answered.totalCount)], ['the read with its token', tenth(shown.p50), tenth(shown.p99), number(seen.totalCount)]]
      }],
      charts: [bars('Reads per second', 'reads/s', measured)],
      goals: [{ what: 'reads that did not show the command whose token they had', asked: 0, sense: 'at most', measured: stale, unit: '' }]
    }
  }
}

/** Adds a book, and reads it at once with the token of the answer. */
async function writeThenRead ({ env, plan, say }: Bench) {
  const stores = await env.stores()
  const pipeline = await pipelineOf(env, stores)
  const [answered, seen] = [makeHistogram(), makeHistogram()]
  const [gateway, query] = [new Pool(pipeline.gateway.url, { connections: callers }), new Pool(pipeline.query.url, { connections: callers })]
  const bodies = sample(50).map(book => JSON.stringify(book))
  let [next, stale] = [0, 0]
  const measure = async (durationMs: number, counted: boolean) => {
    const end = performance.now() + durationMs
    await Promise.all(Array.from({ length: callers }, async () => {
      while (performance.now() < end) {
        const begun = performance.now()
        const { headers, body } = await gateway.request({ method: 'POST', path: '/books', headers: { 'content-type': 'application/json' }, body: bodies[next++ % bodies.length]! })
        const { id } = await body.json() as { id: string }
        const between = performance.now()
        const read = await query.request({ method: 'GET', path: `/books/${id}`, headers: { 'consistency-token': String(headers['consistency-token']) } })
        await read.body.dump()
        if (!counted) continue
        if (read.statusCode !== 200) stale++
        answered.recordValue(Math.round((between - begun) * 1000))
        seen.recordValue(Math.round((performance.now() - between) * 1000))
      }
    }))
  }
  say('a command and then a read: warming up')
  await measure(plan.warmupMs, false)
  say('a command and then a read')
  await measure(plan.roundMs * plan.rounds, true)
  await Promise.all([gateway.close(), query.close()])
  return { answered, seen, stale }
}
