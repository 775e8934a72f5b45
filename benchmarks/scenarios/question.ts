/** The question that people ask: is the split faster than a plain app that reads and writes one table? */
import { sample } from '../books.ts'
import { runMixed } from '../load/mixed.ts'
import { pipelineOf, untilDrained } from '../pipeline.ts'
import { addCommitted } from '../seed.ts'
import { bars, comparison, compare, number, ratioOf, tenth, whole, type Measured, type Runner, type Scenario, type Table } from '../scenario.ts'

const mixes = [
  { name: 'writes only', readShare: 0 },
  { name: 'reads only', readShare: 1 },
  { name: '90 % reads', readShare: 0.9 },
  { name: '50 % reads', readShare: 0.5 }
]
const callers = 128
const count = 8000 // books to read from the start
const bodies = sample(50).map(book => JSON.stringify(book))

export const question: Scenario = {
  name: 'question',
  async run (bench) {
    const { env, say } = bench
    const [plain, joined, split] = [await env.stores(), await env.stores(), await env.stores()]
    const monolith = await env.start('monolith', plain.env)
    const joins = await env.start('monolith', { ...joined.env, STORAGE: 'joined' })
    const pipeline = await pipelineOf(env, split)
    say('adding books')
    const ids = { monolith: await addOver(monolith.url), joined: await addOver(joins.url), split: await addCommitted(split, count) }
    await untilDrained(pipeline)
    const outcomes = new Map<string, Measured[]>()
    for (const { name, readShare } of mixes) {
      const runner = (name: string, writeUrl: string, readUrl: string, ids: readonly string[], settle?: () => Promise<void>): Runner =>
        ({ name, run: async durationMs => await runMixed({ writeUrl, readUrl, readShare, ids, bodies, callers, durationMs }), ...settle && { settle } })
      outcomes.set(name, await compare([
        runner('one app, one table', monolith.url, monolith.url, ids.monolith),
        runner('one app, joins', joins.url, joins.url, ids.joined),
        runner('Bifold', pipeline.gateway.url, pipeline.query.url, ids.split, async () => await untilDrained(pipeline))
      ], { ...bench, say: text => say(`${name}: ${text}`) }))
    }
    const of = (mix: string, index: number) => outcomes.get(mix)![index]!
    return {
      scenario: 'question',
      title: 'The split against one app',
      sentence: `Against a plain Fastify app on one PostgreSQL table, Bifold does ${mixes.map(({ name }) => `${ratioOf(of(name, 2), of(name, 0))} times the ${name === 'writes only' ? 'writes' : name === 'reads only' ? 'reads' : `requests at ${name}`}`).join(', ')}, with all four apps and three servers on the same two cores.`,
      tables: [summary(outcomes), ...[...outcomes].map(([name, measured]) => ({ ...comparison(measured, 'requests'), columns: [name, ...comparison(measured, 'requests').columns.slice(1)] }))],
      charts: [...outcomes].map(([name, measured]) => bars(`Requests per second: ${name}`, 'requests/s', measured)),
      goals: []
    }
  }
}

function summary (outcomes: ReadonlyMap<string, readonly Measured[]>): Table {
  const names = [...outcomes.values()][0]!.map(({ name }) => name)
  return {
    columns: ['requests/s', ...names, 'Bifold to one table', 'Bifold to joins', 'p99 ms, one table', 'p99 ms, Bifold'],
    rows: [...outcomes].map(([mix, measured]) => {
      const [plain, joins, split] = measured as [Measured, Measured, Measured]
      return [mix, ...measured.map(({ perSecond }) => number(whole(perSecond.median))), ratioOf(split, plain), ratioOf(split, joins), tenth(plain.latencyMs.p99), tenth(split.latencyMs.p99)]
    })
  }
}

async function addOver (url: string): Promise<string[]> {
  const ids: string[] = []
  for (let added = 0; added < count; added += callers) {
    ids.push(...await Promise.all(Array.from({ length: callers }, async (_, index) => {
      const response = await fetch(`${url}/books`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: bodies[index % bodies.length]! })
      return (await response.json() as { id: string }).id
    })))
  }
  return ids
}
