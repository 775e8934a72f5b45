/** Command → visible: how long it takes until a committed command can be read, and what rate the pipeline sustains. */
import autocannon from 'autocannon'
import { setTimeout } from 'node:timers/promises'
import type { Histogram } from 'hdr-histogram-js'
import { sample } from '../books.ts'
import { latenciesOf, makeHistogram } from '../load/latencies.ts'
import { runHttp } from '../load/http.ts'
import { runVisible } from '../load/visible.ts'
import { applied, pipelineOf, untilDrained, type Pipeline } from '../pipeline.ts'
import { number, tenth, whole, type Bench, type Chart, type Scenario } from '../scenario.ts'
import { addBooks } from './writes.ts'

const bodies = sample(50).map(book => JSON.stringify(book))
const connections = 256
const sustained = 5000 // commands/s, the goal
const sampleMs = 250 // of the lag

export const visible: Scenario = {
  name: 'visible',
  async run (bench) {
    const { env, quick, say, plan } = bench
    const stores = await env.stores()
    const pipeline = await pipelineOf(env, stores)
    const { gateway, query } = pipeline
    say('finding the maximum')
    await runHttp({ url: gateway.url, requests: addBooks, connections, durationMs: plan.warmupMs })
    await untilDrained(pipeline)
    const { perSecond: max } = await runHttp({ url: gateway.url, requests: addBooks, connections, durationMs: plan.roundMs })
    await untilDrained(pipeline)

    const rates = [100, 1000, whole(max / 2)]
    const outcomes = rates.map(() => ({ answered: makeHistogram(), visible: makeHistogram(), errors: 0 }))
    for (let round = 1; round <= plan.rounds; round++) {
      for (const [index, perSecond] of rates.entries()) {
        say(`${number(perSecond)} commands/s: round ${round} of ${plan.rounds}`)
        const { answered, visible, errors } = await runVisible({ gatewayUrl: gateway.url, grpc: query.grpc, bodies, perSecond, durationMs: plan.roundMs * 2 })
        const outcome = outcomes[index]!
        outcome.answered.add(answered)
        outcome.visible.add(visible)
        outcome.errors += errors
        await untilDrained(pipeline)
      }
    }
    const lag = await sustain(bench, pipeline, quick ? 5000 : 30_000)
    await Promise.all(Object.values(pipeline).map(async contender => await contender.stop()))
    await stores.remove()
    const at100 = latenciesOf(outcomes[0]!.visible)
    return {
      scenario: 'visible',
      title: 'Command → visible',
      sentence: `At 100 commands/s a command can be read ${tenth(at100.p50)} ms (p50) and ${tenth(at100.p99)} ms (p99) after it was due; at ${number(sustained)}/s the pipeline is ${number(lag.atEnd)} events behind after ${whole(lag.seconds)} s, and ${number(lag.atHalf)} half way.`,
      tables: [{
        columns: ['commands/s', 'answered: p50 ms', 'p99', 'p99.9', 'visible: p50 ms', 'p99', 'p99.9', 'not seen or refused'],
        rows: rates.map((rate, index) => {
          const { answered, visible, errors } = outcomes[index]!
          return [number(rate), ...percentiles(answered), ...percentiles(visible), errors]
        })
      }, { columns: ['offered commands/s', 'committed/s', 'lag half way', 'lag at the end'], rows: [[number(sustained), number(whole(lag.committed)), number(lag.atHalf), number(lag.atEnd)]] }],
      charts: [
        distribution('From command to visible', rates, outcomes.map(({ visible }) => visible)),
        { kind: 'lines', title: `Events behind, at ${number(sustained)} commands/s`, x: 's', y: 'events', lines: [{ name: 'lag', points: lag.points }] }
      ],
      goals: [
        { what: 'command → visible at 100/s, p50', asked: 8, sense: 'at most', measured: tenth(at100.p50), unit: ' ms' },
        { what: 'command → visible at 100/s, p99', asked: 25, sense: 'at most', measured: tenth(at100.p99), unit: ' ms' },
        { what: 'committed end to end at 5,000 commands/s offered', asked: sustained * 0.98, sense: 'at least', measured: whole(lag.committed), unit: '/s' },
        { what: 'lag at the end of it, times the lag half way (or 100 events)', asked: 1.5, sense: 'at most', measured: tenth(lag.atEnd / Math.max(100, lag.atHalf)), unit: '' }
      ]
    }
  }
}

const percentiles = (histogram: Histogram) => {
  const { p50, p99, p999 } = latenciesOf(histogram)
  return [tenth(p50), tenth(p99), tenth(p999)]
}

const distribution = (title: string, rates: readonly number[], histograms: readonly Histogram[]): Chart => ({
  kind: 'lines',
  title,
  x: 'percentile',
  y: 'ms',
  lines: histograms.map((histogram, index) => ({
    name: `${number(rates[index]!)}/s`,
    points: [10, 25, 50, 75, 90, 95, 99, 99.9].map(percentile => [percentile, tenth(histogram.getValueAtPercentile(percentile) / 1000)] as const)
  }))
})

/** Offers the rate that is to be sustained, and looks how far the read models are behind. */
async function sustain ({ say }: Bench, { gateway, projector }: Pipeline, durationMs: number) {
  say(`${number(sustained)} commands/s`)
  const [commands, events] = [await gateway.metric('bifold_commands_total'), applied(await projector.metrics())]
  const points: [number, number][] = []
  const begun = performance.now()
  const load = autocannon({ url: gateway.url, requests: addBooks as autocannon.Request[], connections, duration: durationMs / 1000, overallRate: sustained })
  const done = load.then(() => true)
  while (!await Promise.race([done, setTimeout(sampleMs, false)])) {
    const projected = applied(await projector.metrics()) - events
    points.push([tenth((performance.now() - begun) / 1000), Math.max(0, await gateway.metric('bifold_commands_total') - commands - projected)])
  }
  const seconds = (performance.now() - begun) / 1000
  const committed = (await gateway.metric('bifold_commands_total') - commands) / seconds
  const mean = (some: readonly [number, number][]) => whole(some.reduce((total, [, lag]) => total + lag, 0) / some.length)
  const quarter = Math.max(1, Math.floor(points.length / 4))
  return { points, seconds, committed, atHalf: mean(points.slice(quarter, 2 * quarter)), atEnd: mean(points.slice(-quarter)) }
}
