/** Drain: how fast a backlog is done, and how much memory it takes. */
import { setTimeout } from 'node:timers/promises'
import type { Contender, Environment, Stores } from '../environment.ts'
import { applied, ofBooks, untilSent } from '../pipeline.ts'
import { addCommitted, reviseCommitted } from '../seed.ts'
import { number, spreadOf, whole, type Bench, type Chart, type Goal, type Scenario, type Spread } from '../scenario.ts'

const sampleMs = 100 // a hundredth of the whole, or less; asked more often, the answers would be a part of what is measured
const drainMs = 300_000 // a backlog that is not done in five minutes is not being worked on

const catalogue = ofBooks.slice(0, 1) // what there was to be kept before there were other read models: its figures can be held against earlier ones
const keeping = ({ env }: Stores, readModels: readonly string[]) => ({ ...env, READ_MODELS: readModels.join() })

export interface Drained {
  readonly perSecond: number
  /** Seconds since the first event, and events done. */
  readonly points: readonly (readonly [number, number])[]
  /** The highest resident memory of each app, in bytes. */
  readonly memory: Readonly<Record<string, number>>
}

export const drain: Scenario = {
  name: 'drain',
  async run (bench) {
    const { env, quick, say, plan } = bench
    const backlog = quick ? 20_000 : 200_000
    const runs = { 'new books, projector': [] as Drained[], 'new books, relay and projector': [] as Drained[], 'revisions, projector': [] as Drained[], 'new books, all read models': [] as Drained[], 'revisions, all read models': [] as Drained[] }
    for (let round = 1; round <= plan.rounds; round++) {
      const told = (text: string) => say(`round ${round} of ${plan.rounds}: ${text}`)
      const stores = await env.stores()
      await prepare(env, stores)
      told(`committing ${number(backlog)} new books`)
      const ids = await addCommitted(stores, backlog)
      told('relay and projector')
      runs['new books, relay and projector'].push(await drainBoth(env, stores, backlog))
      told(`committing ${number(backlog)} revisions`)
      await reviseCommitted(stores, ids, 1)
      told('projector, revisions')
      runs['revisions, projector'].push(await drainProjector(env, stores, backlog))
      told(`committing ${number(backlog)} new books`)
      await addCommitted(stores, backlog)
      told('projector, new books')
      runs['new books, projector'].push(await drainProjector(env, stores, backlog))
      await stores.remove()
      const all = await env.stores()
      await prepare(env, all, ofBooks)
      told(`committing ${number(backlog)} new books`)
      const others = await addCommitted(all, backlog)
      told('projector, new books, all read models')
      runs['new books, all read models'].push(await drainProjector(env, all, backlog, ofBooks))
      told(`committing ${number(backlog)} revisions`)
      await reviseCommitted(all, others, 1)
      told('projector, revisions, all read models')
      runs['revisions, all read models'].push(await drainProjector(env, all, backlog, ofBooks))
      await all.remove()
    }
    return section(bench, backlog, runs)
  }
}

function section ({ quick }: Bench, backlog: number, runs: Record<string, readonly Drained[]>) {
  const rates = Object.entries(runs).map(([name, drained]): [string, Spread] => [name, spreadOf(drained.map(({ perSecond }) => perSecond))])
  const memory = new Map<string, number>()
  for (const drained of Object.values(runs).flat()) {
    for (const [app, bytes] of Object.entries(drained.memory)) memory.set(app, Math.max(bytes, memory.get(app) ?? 0))
  }
  const rate = (name: string) => whole(rates.find(([other]) => other === name)![1].median)
  const asked: Record<string, number> = { 'new books, projector': 40_000, 'revisions, projector': 25_000, 'new books, relay and projector': 25_000 }
  const goals: Goal[] = [
    ...Object.entries(asked).map(([name, asked]): Goal => ({ what: `drain: ${name}`, asked, sense: 'at least', measured: rate(name), unit: ' events/s' })),
    ...[...memory].map(([app, bytes]): Goal => ({ what: `resident memory of the ${app} with ${number(backlog)} events of backlog`, asked: 300, sense: 'at most', measured: megabytes(bytes), unit: ' MB' }))
  ]
  const lines: Chart = { kind: 'lines', title: `A backlog of ${number(backlog)} events`, x: 's', y: 'events done', lines: Object.entries(runs).map(([name, [first]]) => ({ name, points: first!.points })) }
  return {
    scenario: 'drain',
    title: 'Drain of a backlog',
    sentence: `One projector applies ${number(rate('new books, projector'))} events/s of new books and ${number(rate('revisions, projector'))} of revisions; with the relay in the path, ${number(rate('new books, relay and projector'))}; these are for the catalogue alone. For all ${ofBooks.length} read models that show books, it applies ${number(rate('new books, all read models'))} and ${number(rate('revisions, all read models'))}${quick ? ' (quick run: a small backlog)' : ''}.`,
    tables: [
      { columns: [`${number(backlog)} events`, 'events/s (median)', 'lowest', 'highest'], rows: rates.map(([name, { median, min, max }]) => [name, whole(median), whole(min), whole(max)]) },
      { columns: ['app', 'highest resident memory, MB'], rows: [...memory].map(([app, bytes]) => [app, megabytes(bytes)]) }
    ],
    charts: [lines],
    goals
  }
}

const megabytes = (bytes: number) => whole(bytes / 1e6)

/** Has the read models made while there are no events: later they would be filled from PostgreSQL, and not from the topic. */
export async function prepare (env: Environment, stores: Stores, readModels: readonly string[] = catalogue): Promise<void> {
  const [relay, projector] = [await env.start('relay', stores.env), await env.start('projector', keeping(stores, readModels))]
  await Promise.all([relay.stop(), projector.stop()])
}

/** Relay and projector are started on what is committed but not sent. */
export async function drainBoth (env: Environment, stores: Stores, events: number): Promise<Drained> {
  const projector = await env.start('projector', keeping(stores, catalogue))
  const relay = await env.start('relay', stores.env)
  const drained = await watch(events, { relay, projector }, catalogue)
  await Promise.all([relay.stop(), projector.stop()])
  return drained
}

/** The relay has done its part before the projector is started. */
export async function drainProjector (env: Environment, stores: Stores, events: number, readModels: readonly string[] = catalogue): Promise<Drained> {
  const relay = await env.start('relay', stores.env)
  await untilSent(relay)
  await relay.stop()
  const projector = await env.start('projector', keeping(stores, readModels))
  const drained = await watch(events, { projector }, readModels)
  await projector.stop()
  return drained
}

async function watch (events: number, apps: Readonly<Record<string, Contender>> & { readonly projector: Contender }, readModels: readonly string[]): Promise<Drained> {
  const memory: Record<string, number> = {}
  const points: [number, number][] = []
  let begun = performance.now()
  const end = begun + drainMs
  for (let done = 0; done < events;) {
    const at = performance.now()
    const figures = new Map(await Promise.all(Object.entries(apps).map(async ([name, app]) => [name, await app.metrics()] as const)))
    done = applied(figures.get('projector')!, readModels)
    if (done === 0) begun = at
    if (at > end) throw new Error(`${done} of ${events} events were done within ${drainMs / 1000} s`)
    points.push([(at - begun) / 1000, done])
    for (const [name, figure] of figures) memory[name] = Math.max(memory[name] ?? 0, figure('process_resident_memory_bytes'))
    await setTimeout(sampleMs)
  }
  const [first, last] = [points.find(([, done]) => done > 0)!, points.at(-1)!]
  // From the first sample that shows progress, since the start of the process is no part of it; a tiny backlog may be done within one.
  const seconds = last[0] - first[0]
  return { perSecond: seconds > 0 ? (last[1] - first[1]) / seconds : last[1] / last[0], points, memory }
}
