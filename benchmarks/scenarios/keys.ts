/** Keys: what an Idempotency-Key on each command costs the group commit. */
import { runHttp } from '../load/http.ts'
import { bars, comparison, compare, latencyBars, ratioOf, type Measured, type Runner, type Scenario } from '../scenario.ts'
import { addBooks } from './writes.ts'

const connections = 256 // as for the writes
// The difference is small beside the noise: more rounds, and shorter ones. Of half as many, one run gave 0.03 more or less than another.
const [roundsTimes, shorter] = [8, 2]

export const keys: Scenario = {
  name: 'keys',
  async run (bench) {
    const { env, plan } = bench
    const stores = await env.stores()
    // One gateway for both: two processes of the same program differ by as much as a key costs.
    const gateway = await env.start('gateway', stores.env)
    // Both send an id, in one header or another that nobody reads: making and parsing it costs the same.
    const runner = (name: string, header: string): Runner => ({
      name,
      run: async durationMs => await runHttp({ url: gateway.url, requests: addBooks.map(request => ({ ...request, headers: { ...request.headers, [header]: '[<id>]' } })), connections, durationMs, ids: true })
    })
    const measured = await compare([
      runner('without a key', 'x-nothing'),
      runner('with an Idempotency-Key', 'idempotency-key')
    ], { ...bench, plan: { ...plan, roundMs: plan.roundMs / shorter, rounds: plan.rounds * roundsTimes } })
    const [without, keyed] = measured as [Measured, Measured]
    return {
      scenario: 'keys',
      title: 'Keys: POST /books with an Idempotency-Key',
      sentence: `With an Idempotency-Key on each command, the gateway commits ${ratioOf(keyed, without)} of what it commits without.`,
      goals: [{ what: 'group commit with keys, as a share of that without', asked: 0.9, sense: 'at least', measured: ratioOf(keyed, without), unit: '' }],
      tables: [comparison(measured, 'commands')],
      charts: [bars('Commands per second', 'commands/s', measured), latencyBars('Latency of a command, at full load', measured)]
    }
  }
}
