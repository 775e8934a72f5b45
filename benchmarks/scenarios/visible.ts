/** Command → visible: how long it takes until a committed command can be read, and what rate the pipeline sustains. */
import autocannon from 'autocannon'
import { setTimeout } from 'node:timers/promises'
import type { Histogram } from 'hdr-histogram-js'
import { sample } from '../books.ts'
import { latenciesOf, makeHistogram } from '../load/latencies.ts'
import { runHttp } from '../load/http.ts'
import { runVisible } from '../load/visible.ts'
import { applied, ofBooks, pipelineOf, untilDrained, type Pipeline } from '../pipeline.ts'
import { number, tenth, whole, type Bench, type Chart, type Scenario } from '../scenario.ts'
import { addBooks } from './writes.ts'

const bodies = sample(50).map(book => JSON.stringify(book))
const connections = 256
const sustained = 5000 // commands/s, the goal
const sampleMs = 250 // of the lag
const catalogue = ofBooks[0]!
const byItself = `${catalogue} alone`

export const visible: Scenario = {
  name: 'visible',
  async run (bench) {
    const { env, say, plan } = bench
    const stores = await env.stores()
    const pipeline = await pipelineOf(env, stores)
    const { gateway } = pipeline
    say('finding the maximum')
    await runHttp({ url: gateway.url, requests: addBooks, connections, durationMs: plan.warmupMs })
    await untilDrained(pipeline)
    const { perSecond: max } = await runHttp({ url: gateway.url, requests: addBooks, connections, durationMs: plan.roundMs })
    await untilDrained(pipeline)

    const rates = [100, 1000, whole(max / 2)]
    const outcomes = await atRates(bench, pipeline, rates)
    const lag = await sustain(bench, pipeline, ofBooks)
    // What all read models cost: the same with the first alone, by another projector on the same stores.
    await pipeline.projector.stop()
    const alone = { ...pipeline, projector: await env.start('projector', { ...stores.env, READ_MODELS: catalogue }) }
    const [ofCatalogue] = await atRates(bench, alone, [rates[0]!])
    const lagOfCatalogue = await sustain(bench, alone, [catalogue])
    const at100 = latenciesOf(outcomes[0]!.visible)
    return {
      scenario: 'visible',
      title: 'Command → visible',
      sentence: `At 100 commands/s a command can be read ${tenth(at100.p50)} ms (p50) and ${tenth(at100.p99)} ms (p99) after it was due; at ${number(sustained)}/s the pipeline is ${number(lag.atEnd)} events behind after ${whole(lag.seconds)} s, and ${number(lag.atHalf)} half way.`,
      tables: [{
        columns: ['read models', 'commands/s', 'answered: p50 ms', 'p99', 'p99.9', 'visible: p50 ms', 'p99', 'p99.9', 'not seen or refused'],
        rows: [...outcomes.map(outcome => row('all', outcome)), row(byItself, ofCatalogue!)]
      }, {
        columns: ['read models', 'offered commands/s', 'committed/s', 'events behind half way', 'at the end'],
        rows: Object.entries({ all: lag, [byItself]: lagOfCatalogue }).map(([name, { committed, atHalf, atEnd }]) => [name, number(sustained), number(whole(committed)), number(atHalf), number(atEnd)])
      }],
      charts: [
        distribution('From command to visible', rates, outcomes.map(({ visible }) => visible)),
        { kind: 'lines', title: `Events behind, at ${number(sustained)} commands/s`, x: 's', y: 'events', lines: [{ name: 'all read models', points: lag.points }, { name: byItself, points: lagOfCatalogue.points }] }
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

/** At each of the rates, in rounds: when commands were answered, and when their outcome could be read. */
async function atRates ({ say, plan }: Bench, pipeline: Pipeline, rates: readonly number[]) {
  const outcomes = rates.map(perSecond => ({ perSecond, answered: makeHistogram(), visible: makeHistogram(), errors: 0 }))
  for (let round = 1; round <= plan.rounds; round++) {
    for (const outcome of outcomes) {
      const { perSecond } = outcome
      say(`${number(perSecond)} commands/s: round ${round} of ${plan.rounds}`)
      const { answered, visible, errors } = await runVisible({ gatewayUrl: pipeline.gateway.url, grpc: pipeline.query.grpc, bodies, perSecond, durationMs: plan.roundMs * 2 })
      outcome.answered.add(answered)
      outcome.visible.add(visible)
      outcome.errors += errors
      await untilDrained(pipeline)
    }
  }
  return outcomes
}

const row = (readModels: string, { perSecond, answered, visible, errors }: Awaited<ReturnType<typeof atRates>>[number]) =>
  [readModels, number(perSecond), ...percentiles(answered), ...percentiles(visible), errors]

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

/** Events that the read model furthest behind had not: over time, in the second quarter, and in the last. */
interface Lag { readonly points: readonly [number, number][], readonly seconds: number, readonly committed: number, readonly atHalf: number, readonly atEnd: number }

const committed = 'bifold_commands_total{command="addBook",outcome="accepted"}' // what is refused is counted by the same name

/** Offers the rate that is to be sustained, and looks how far the read models are behind. */
async function sustain ({ say, quick }: Bench, { gateway, projector }: Pipeline, readModels: readonly string[]): Promise<Lag> {
  const durationMs = quick ? 5000 : 30_000
  say(`${number(sustained)} commands/s`)
  const [commands, events] = [await gateway.metric(committed), applied(await projector.metrics(), readModels)]
  const points: [number, number][] = []
  const begun = performance.now()
  const load = autocannon({ url: gateway.url, requests: addBooks as autocannon.Request[], connections, duration: durationMs / 1000, overallRate: sustained })
  const done = load.then(() => true)
  while (!await Promise.race([done, setTimeout(sampleMs, false)])) {
    const projected = applied(await projector.metrics(), readModels) - events
    points.push([tenth((performance.now() - begun) / 1000), Math.max(0, await gateway.metric(committed) - commands - projected)])
  }
  const seconds = (performance.now() - begun) / 1000
  const perSecond = (await gateway.metric(committed) - commands) / seconds
  const mean = (some: readonly [number, number][]) => whole(some.reduce((total, [, lag]) => total + lag, 0) / some.length)
  const quarter = Math.max(1, Math.floor(points.length / 4))
  return { points, seconds, committed: perSecond, atHalf: mean(points.slice(quarter, 2 * quarter)), atEnd: mean(points.slice(-quarter)) }
}
