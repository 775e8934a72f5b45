/** Watch: a thousand who watch one query service at a steady rate of changes: how late they hear, and what memory that takes. */
import { performance } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import { credentials, type ClientReadableStream } from '@grpc/grpc-js'
import { booksV1 } from '@bifold/proto'
import { latenciesOf, makeHistogram } from '../load/latencies.ts'
import { openLoop } from '../load/open-loop.ts'
import { watchMany } from '../load/watch.ts'
import { addProjected } from '../seed.ts'
import { number, tenth, whole, type Scenario } from '../scenario.ts'
import type { Contender } from '../environment.ts'

const watchers = 1000 // on one query service, the goal
const read = 10 // of them, whose messages are decoded
const changesPerSecond = 500
const books = 1000
const connections = 20
const lastMs = 5000 // for what is still on its way when the load ends
const sampleMs = 250

export const watch: Scenario = {
  name: 'watch',
  async run ({ env, quick, say }) {
    const durationMs = quick ? 5000 : 20_000
    const stores = await env.stores()
    const ids = await addProjected(stores, books)
    const query = await env.start('query', stores.env)
    const before = await query.metric('process_resident_memory_bytes')
    say(`${number(watchers)} join`)
    const crowd = await watchMany(query.grpc, '/books.v1.BookQueryService/WatchBooks', booksV1.WatchBooksRequest.encode(booksV1.WatchBooksRequest.fromPartial({})).finish(), { streams: watchers - read, connections })
    const delay = makeHistogram()
    const readers = Array.from({ length: read }, () => makeReader(query, delay))
    while (readers.some(({ joined }) => !joined()) || await query.metric('bifold_query_watchers') < watchers) await setTimeout(sampleMs)
    say(`${number(changesPerSecond)} changes/s`)
    const collection = stores.mongo.collection<{ _id: string }>('books')
    const memory = sampled(query)
    const cpu = await query.metric('process_cpu_seconds_total')
    const begun = performance.now()
    let changes = 0
    await openLoop({
      perSecond: changesPerSecond,
      durationMs,
      // When it was due stands in the price: whoever reads it knows how late it is.
      async fire (due) { await collection.updateOne({ _id: ids[changes++ % books]! }, { $inc: { version: 1 }, $set: { price: Math.round(performance.timeOrigin + due) }, $unset: { _message: 1 } }) }
    })
    const seconds = (performance.now() - begun) / 1000
    const cores = (await query.metric('process_cpu_seconds_total') - cpu) / seconds
    const end = performance.now() + lastMs
    while (readers.some(({ told }) => told() < changes) && performance.now() < end) await setTimeout(sampleMs)
    const most = await memory.stop()
    const missing = readers.reduce((all, { told }) => all + changes - told(), 0)
    const ended = crowd.ended()
    crowd.close()
    for (const { close } of readers) close()
    const { p50, p99, p999 } = latenciesOf(delay)
    return {
      scenario: 'watch',
      title: 'Watch',
      sentence: `${number(watchers)} watchers of one query service hear of ${number(whole(changes / seconds))} changes/s ${whole(p50)} ms (p50) and ${whole(p99)} ms (p99) after each was due; the service takes ${whole(most / 1e6)} MB at most.`,
      tables: [{
        columns: ['watchers', 'changes/s', 'p50 ms', 'p99 ms', 'p99.9 ms', 'MB/s sent to all', 'cores of the service', 'memory before, MB', 'at most, MB', 'streams that ended', 'changes not told'],
        rows: [[number(watchers), whole(changes / seconds), tenth(p50), tenth(p99), tenth(p999), whole(crowd.bytes() / seconds / 1e6), tenth(cores), whole(before / 1e6), whole(most / 1e6), ended, missing]]
      }],
      charts: [],
      goals: [
        { what: 'changes that a watcher was not told, of those that were read', asked: 0, sense: 'at most', measured: missing, unit: '' },
        { what: 'streams that ended', asked: 0, sense: 'at most', measured: ended, unit: '' },
        { what: 'changes per second', asked: changesPerSecond * 0.98, sense: 'at least', measured: whole(changes / seconds), unit: '/s' }
      ]
    }
  }
}

/** One who watches and reads: counts each version of each book, and how late it came. */
function makeReader ({ grpc }: Contender, delay: ReturnType<typeof makeHistogram>) {
  const client = new booksV1.BookQueryServiceClient(grpc, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1, 'grpc.max_receive_message_length': -1 })
  const stream: ClientReadableStream<booksV1.WatchBooksResponse> = client.watchBooks(booksV1.WatchBooksRequest.fromPartial({}))
  const versions = new Map<string, number>()
  let [joined, told] = [false, 0]
  stream.on('error', () => {})
  stream.on('data', ({ books, resumeToken }) => {
    const now = performance.timeOrigin + performance.now()
    for (const { id, version, price = 0 } of books) {
      // Changes of one book that follow each other soon are told as the last of them.
      if (joined) {
        told += version - (versions.get(id) ?? version)
        delay.recordValue(Math.max(1, Math.round((now - price) * 1000)))
      }
      versions.set(id, version)
    }
    joined ||= resumeToken !== ''
  })
  return { joined: () => joined, told: () => told, close: () => { stream.cancel(); client.close() } }
}

/** Looks at the memory of a process until it is stopped; gives the most that it had. */
function sampled (contender: Contender) {
  const end = new AbortController()
  const done = (async () => {
    let most = 0
    while (!end.signal.aborted) {
      most = Math.max(most, await contender.metric('process_resident_memory_bytes'))
      await setTimeout(sampleMs)
    }
    return most
  })()
  return {
    async stop () {
      end.abort()
      return await done
    }
  }
}
