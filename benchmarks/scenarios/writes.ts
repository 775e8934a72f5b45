/** Writes: how much of what HTTP can do is left when each command is committed with its event. */
import { sample } from '../books.ts'
import { runHttp } from '../load/http.ts'
import { pipelineOf, untilDrained } from '../pipeline.ts'
import { bars, comparison, compare, latencyBars, number, ratioOf, whole, type Measured, type Runner, type Scenario, type Section } from '../scenario.ts'

const connections = 256 // as many clients at once; each waits for its answer
const bodies = 50 // different books, so that no cache of one body helps

export const addBooks = sample(bodies).map(book => ({ method: 'POST', path: '/books', headers: { 'content-type': 'application/json' }, body: JSON.stringify(book) }))

export const writes: Scenario = {
  name: 'writes',
  async run (bench): Promise<Section> {
    const { env } = bench
    const [alone, grouped, piped] = [await env.stores(), await env.stores(), await env.stores()]
    const runner = (name: string, url: string, settle?: () => Promise<void>): Runner => ({ name, run: async durationMs => await runHttp({ url, requests: addBooks, connections, durationMs }), ...settle && { settle } })
    const empty = await env.start('empty', alone.env)
    const oneByOne = await env.start('one-by-one', alone.env)
    const gateway = await env.start('gateway', grouped.env)
    const pipeline = await pipelineOf(env, piped)
    const measured = await compare([
      runner('empty route', empty.url),
      runner('one transaction per command', oneByOne.url),
      runner('group commit', gateway.url),
      runner('group commit, whole pipeline', pipeline.gateway.url, async () => await untilDrained(pipeline))
    ], bench)
    return section(measured as [Measured, Measured, Measured, Measured], {
      scenario: 'writes',
      title: 'Writes: POST /books',
      tables: [comparison(measured, 'commands')],
      charts: [bars('Commands per second', 'commands/s', measured), latencyBars('Latency of a command, at full load', measured)]
    })
  }
}

function section ([empty, oneByOne, grouped, piped]: [Measured, Measured, Measured, Measured], rest: Omit<Section, 'sentence' | 'goals'>): Section {
  return {
    ...rest,
    sentence: `The gateway commits ${number(whole(grouped.perSecond.median))} commands/s, ${ratioOf(grouped, empty)} of an empty route with the same validation and ${ratioOf(grouped, oneByOne)} times one transaction per command; ${number(whole(piped.perSecond.median))} with the whole pipeline on the same cores.`,
    goals: [
      { what: 'group commit, as a share of the empty route', asked: 0.6, sense: 'at least', measured: ratioOf(grouped, empty), unit: '' },
      { what: 'group commit, times one transaction per command', asked: 5, sense: 'at least', measured: ratioOf(grouped, oneByOne), unit: '×' }
    ]
  }
}
