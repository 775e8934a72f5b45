/** Bulk: what a line of a batch costs, beside a command that is sent alone. */
import { runBulk } from '../load/bulk.ts'
import { runHttp } from '../load/http.ts'
import { bars, comparison, compare, latencyBars, number, ratioOf, whole, type Measured, type Scenario } from '../scenario.ts'
import { addBooks } from './writes.ts'

const connections = 256 // as for the writes
const batches = 4 // as the import sends them

export const bulk: Scenario = {
  name: 'bulk',
  async run (bench) {
    const { env } = bench
    const stores = await env.stores()
    // One gateway for both, and the same books.
    const gateway = await env.start('gateway', stores.env)
    const lines = addBooks.map(({ body }) => body)
    const measured = await compare([
      { name: 'single commands', run: async durationMs => await runHttp({ url: gateway.url, requests: addBooks, connections, durationMs }) },
      { name: `lines of ${batches} batches`, run: async durationMs => await runBulk({ url: gateway.url, path: '/books:batch', lines, connections: batches, durationMs }) },
      { name: 'lines of one batch', run: async durationMs => await runBulk({ url: gateway.url, path: '/books:batch', lines, connections: 1, durationMs }) }
    ], bench)
    const [single, many, one] = measured as [Measured, Measured, Measured]
    return {
      scenario: 'bulk',
      title: 'Bulk: POST /books:batch',
      sentence: `In ${batches} batches, the gateway commits ${number(whole(many.perSecond.median))} lines/s, ${ratioOf(many, single)} times what it commits of single commands; ${ratioOf(one, single)} times in one, whose lines are executed in their order.`,
      goals: [{ what: 'lines of batches, times single commands', asked: 2, sense: 'at least', measured: ratioOf(many, single), unit: '×' }],
      tables: [comparison(measured, 'commands')],
      charts: [bars('Commands per second', 'commands/s', measured), latencyBars('Latency of a command, at full load; of a line, from when it was written', measured)]
    }
  }
}
