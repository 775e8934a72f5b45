/** Growth: what ten and a hundred times as many books cost. */
import { runGrpc } from '../load/grpc.ts'
import { runHttp } from '../load/http.ts'
import { addCommitted } from '../seed.ts'
import { compare, hundredth, number, ratioOf, spreadOf, whole, type Bench, type Goal, type Measured, type Scenario } from '../scenario.ts'
import { allReadModels } from '../pipeline.ts'
import { drainBoth, prepare, type Drained } from './drain.ts'
import { getBook } from './reads.ts'
import { addBooks } from './writes.ts'
import type { Contender, Stores } from '../environment.ts'

const connections = 128
const concurrency = 200
const readable = 8000 // of the books are read, spread over all

interface Library { readonly size: number, readonly stores: Stores, readonly ids: readonly string[], readonly filled: Drained, readonly drained: Drained[] }

export const growth: Scenario = {
  name: 'growth',
  async run (bench) {
    const { env, quick, say, plan } = bench
    const sizes = quick ? [1000, 10_000] : [10_000, 100_000, 1_000_000]
    const backlog = quick ? 5000 : 50_000
    const libraries: Library[] = []
    for (const size of sizes) libraries.push(await fill(bench, size))
    for (let round = 1; round <= plan.rounds; round++) {
      for (const { size, stores, drained } of libraries) {
        say(`${number(size)} books: drain, round ${round} of ${plan.rounds}`)
        await addCommitted(stores, backlog)
        drained.push(await drainBoth(env, stores, backlog))
      }
    }
    const apps: { gateway: Contender, query: Contender }[] = []
    for (const { stores } of libraries) apps.push({ gateway: await env.start('gateway', stores.env), query: await env.start('query', stores.env) })
    const named = (index: number) => `${number(libraries[index]!.size)} books`
    const reads = await compare(apps.map(({ query }, index) => ({ name: named(index), run: async durationMs => await runGrpc({ ...getBook(query, libraries[index]!.ids), concurrency, connections: 2, durationMs }) })), { ...bench, say: text => say(`reads: ${text}`) })
    const writes = await compare(apps.map(({ gateway }, index) => ({ name: named(index), run: async durationMs => await runHttp({ url: gateway.url, requests: addBooks, connections, durationMs }) })), { ...bench, say: text => say(`writes: ${text}`) })
    return section(libraries, writes, reads)
  }
}

async function fill ({ env, say }: Bench, size: number): Promise<Library> {
  const stores = await env.stores()
  await prepare(env, stores, allReadModels)
  say(`${number(size)} books: committing`)
  const all = await addCommitted(stores, size)
  say(`${number(size)} books: projecting`)
  const filled = await drainBoth(env, stores, size)
  const step = Math.max(1, Math.floor(size / readable))
  return { size, stores, ids: all.filter((_, index) => index % step === 0), filled, drained: [] }
}

function section (libraries: readonly Library[], writes: readonly Measured[], reads: readonly Measured[]) {
  const rows = libraries.map(({ size, filled, drained }, index) => ({
    size,
    writes: writes[index]!.perSecond.median,
    reads: reads[index]!.perSecond.median,
    drain: spreadOf(drained.map(({ perSecond }) => perSecond)).median,
    memory: filled.memory
  }))
  const [smallest, largest] = [rows[0]!, rows.at(-1)!]
  const kept = { writes: ratioOf(writes.at(-1)!, writes[0]!), reads: ratioOf(reads.at(-1)!, reads[0]!), drain: hundredth(largest.drain / smallest.drain) }
  return {
    scenario: 'growth',
    title: 'Growth',
    sentence: `With ${number(largest.size)} books instead of ${number(smallest.size)}, writes run at ${kept.writes}, reads at ${kept.reads} and the drain at ${kept.drain} of the rate.`,
    tables: [{ columns: ['books', 'writes/s', 'reads/s', 'drain, events/s', 'relay, MB', 'projector, MB'], rows: rows.map(row => [number(row.size), whole(row.writes), whole(row.reads), whole(row.drain), whole(row.memory['relay']! / 1e6), whole(row.memory['projector']! / 1e6)]) }],
    charts: (['writes', 'reads', 'drain'] as const).map(what => ({ kind: 'bars' as const, title: `${what}, by the number of books`, unit: what === 'drain' ? 'events/s' : `${what}/s`, bars: rows.map(row => ({ name: number(row.size), value: whole(row[what]) })) })),
    goals: [
      ...Object.entries(kept).map(([what, share]): Goal => ({ what: `${what} with ${number(largest.size)} books, as a share of ${number(smallest.size)}`, asked: 0.9, sense: 'at least', measured: share, unit: '' })),
      ...Object.entries(largest.memory).map(([app, bytes]): Goal => ({ what: `resident memory of the ${app} with ${number(largest.size)} events of backlog`, asked: 300, sense: 'at most', measured: whole(bytes / 1e6), unit: ' MB' }))
    ]
  }
}
