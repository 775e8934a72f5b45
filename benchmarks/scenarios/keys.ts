/** Keys: what an Idempotency-Key on each command costs the group commit. */
import { runHttp } from '../load/http.ts'
import { bars, comparison, compare, latencyBars, ratio, type Runner, type Scenario } from '../scenario.ts'
import { addBooks } from './writes.ts'

const connections = 256 // as for the writes

export const keys: Scenario = {
  name: 'keys',
  async run (bench) {
    const { env } = bench
    const stores = [await env.stores(), await env.stores()] as const
    const gateways = [await env.start('gateway', stores[0].env), await env.start('gateway', stores[1].env)] as const
    // Both send an id, in one header or another: making it costs the load generator the same.
    const runner = (name: string, url: string, header: string): Runner => ({
      name,
      run: async durationMs => await runHttp({ url, requests: addBooks.map(request => ({ ...request, headers: { ...request.headers, [header]: '[<id>]' } })), connections, durationMs, ids: true })
    })
    const measured = await compare([
      runner('without a key', gateways[0].url, 'x-request-id'),
      runner('with an Idempotency-Key', gateways[1].url, 'idempotency-key')
    ], bench)
    await Promise.all(gateways.map(async gateway => await gateway.stop()))
    await Promise.all(stores.map(async one => await one.remove()))
    const [without, keyed] = measured.map(({ perSecond }) => perSecond.median) as [number, number]
    return {
      scenario: 'keys',
      title: 'Keys: POST /books with an Idempotency-Key',
      sentence: `With an Idempotency-Key on each command, the gateway commits ${ratio(keyed, without)} of what it commits without.`,
      goals: [{ what: 'group commit with keys, as a share of that without', asked: 0.9, sense: 'at least', measured: ratio(keyed, without), unit: '' }],
      tables: [comparison(measured, 'commands')],
      charts: [bars('Commands per second', 'commands/s', measured), latencyBars('Latency of a command, at full load', measured)]
    }
  }
}
