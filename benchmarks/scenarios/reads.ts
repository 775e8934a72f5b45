/** Reads: how much of what gRPC can do is left when each answer comes from MongoDB. */
import { booksV1 } from '@bifold/proto'
import { addProjected } from '../seed.ts'
import { runGrpc } from '../load/grpc.ts'
import { runHttp } from '../load/http.ts'
import { bars, comparison, compare, latencyBars, number, ratioOf, tenth, whole, type Measured, type Runner, type Scenario } from '../scenario.ts'
import type { Contender } from '../environment.ts'

const concurrency = 200 // calls in flight
const connections = 2 // of gRPC; each carries many calls
const count = 8000 // books, as many as the project ships

export const reads: Scenario = {
  name: 'reads',
  async run (bench) {
    const { env } = bench
    const stores = await env.stores()
    const ids = await addProjected(stores, count)
    const contenders = { constant: await env.start('constant', stores.env), findOne: await env.start('find-one', stores.env), query: await env.start('query', stores.env) }
    const load = new Map<string, { generator: number, server: number }>()
    const grpc = (name: string, contender: Contender): Runner => ({ name, run: async durationMs => await metered(load, name, contender, async () => await runGrpc({ ...getBook(contender, ids), concurrency, connections, durationMs })) })
    const requests = ids.slice(0, 500).map(id => ({ method: 'GET', path: `/books/${id}` }))
    const measured = await compare([
      grpc('constant handler', contenders.constant),
      grpc('findOne per call', contenders.findOne),
      grpc('coalesced gRPC', contenders.query),
      { name: 'coalesced HTTP', run: async durationMs => await metered(load, 'coalesced HTTP', contenders.query, async () => await runHttp({ url: contenders.query.url, requests, connections: concurrency / 2, durationMs })) }
    ], bench)
    const [constant, findOne, coalesced] = measured as [Measured, Measured, Measured, Measured]
    return {
      scenario: 'reads',
      title: 'Reads: GetBook',
      sentence: `The query service answers ${number(whole(coalesced.perSecond.median))} GetBook/s, ${ratioOf(coalesced, constant)} of a handler that returns a constant and ${ratioOf(coalesced, findOne)} times one findOne per call.`,
      tables: [comparison(measured, 'reads'), {
        columns: ['who was the bottleneck: cores used', 'server', 'load generator'],
        rows: measured.map(({ name }) => [name, tenth(load.get(name)!.server), tenth(load.get(name)!.generator)])
      }],
      charts: [bars('Reads per second', 'reads/s', measured), latencyBars('Latency of a read, at full load', measured)],
      goals: [
        { what: 'coalesced gRPC, as a share of the constant handler', asked: 0.9, sense: 'at least', measured: ratioOf(coalesced, constant), unit: '' },
        { what: 'coalesced gRPC, times findOne per call', asked: 5, sense: 'at least', measured: ratioOf(coalesced, findOne), unit: '×' }
      ]
    }
  }
}

/** A load of GetBook over these ids. */
export const getBook = ({ grpc }: Contender, ids: readonly string[]) =>
  ({ target: grpc, path: '/books.v1.BookQueryService/GetBook', requests: ids.map(id => booksV1.GetBookRequest.encode({ id }).finish()) })

/** Keeps how many cores the server and the load generator have used. */
async function metered<T> (load: Map<string, { generator: number, server: number }>, name: string, contender: Contender, run: () => Promise<T>): Promise<T> {
  const [cpu, serverCpu, begun] = [process.cpuUsage(), await contender.metric('process_cpu_seconds_total'), performance.now()]
  const result = await run()
  const seconds = (performance.now() - begun) / 1000
  const { user, system } = process.cpuUsage(cpu)
  load.set(name, { generator: (user + system) / 1e6 / seconds, server: (await contender.metric('process_cpu_seconds_total') - serverCpu) / seconds })
  return result
}
