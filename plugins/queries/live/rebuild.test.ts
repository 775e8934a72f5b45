/** Watching through `npm run rebuild` on the whole path, while commands go on: whoever watches is told what the new read model has. */
import { setTimeout } from 'node:timers/promises'
import { execa } from 'execa'
import t from 'tap'
import { booksV1 } from '@bifold/proto'
import { pipeline, until, type Pipeline } from '@bifold/test'

const rebuild = ({ settings }: Pipeline) => execa('node', ['tools/rebuild.ts'], { env: Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, String(value)])), reject: false, all: true })

function writing (line: Pipeline) {
  const end = new AbortController()
  const done = Promise.all([1, 2, 3, 4].map(async lane => {
    for (let n = 0; !end.signal.aborted; n++) {
      const { body: { id } } = await line.post('/books', { title: `Book ${lane}.${n}`, authors: ['Jane Austen'], language: n % 2 === 0 ? 'eng' : 'ger' })
      for (let price = 1; price < 3; price++) await line.send('PATCH', `/books/${id}`, { price, language: price === 1 ? 'ger' : 'eng' })
      if (n % 3 === 0) await line.send('DELETE', `/books/${id}`)
    }
  }))
  return { async end () { end.abort(); await done } }
}

function watching (line: Pipeline, request: Partial<booksV1.WatchBooksRequest>) {
  const one = { has: new Map<string, number>(), faults: [] as string[], token: '', snapshots: 0, stream: line.books.watchBooks(booksV1.WatchBooksRequest.fromPartial(request)) }
  one.stream.on('data', ({ snapshotBegins, books, removedIds, resumeToken }: booksV1.WatchBooksResponse) => {
    if (snapshotBegins) {
      one.snapshots++
      one.has.clear()
    }
    for (const { id, version } of books) {
      if (version <= (one.has.get(id) ?? 0)) one.faults.push(`${id}: ${version} after ${one.has.get(id)}`)
      one.has.set(id, version)
    }
    for (const id of removedIds) one.has.delete(id)
    if (resumeToken !== '') one.token = resumeToken
  }).on('error', error => { one.faults.push(String(error)) })
  return one
}

t.test('through rebuilds under load, those who watch have what there is, and those who come back too', async t => {
  const line = await pipeline(t)
  const filters = [{}, { language: 'eng' }]
  const writer = writing(line)
  await setTimeout(500)
  const watchers = filters.map(filter => watching(line, filter))
  t.teardown(() => { for (const { stream } of watchers) stream.cancel() })
  await until(async () => watchers.every(({ token }) => token !== ''), 'the snapshots')
  // Cut off before the rebuild, and back after it.
  const away = watching(line, {})
  await until(async () => away.token !== '', 'the snapshot')
  away.stream.removeAllListeners('error').on('error', () => {}).cancel()
  for (let round = 0; round < 2; round++) {
    const { exitCode, all } = await rebuild(line)
    t.equal(exitCode, 0, String(all))
    await setTimeout(500)
  }
  const back = watching(line, { resumeToken: away.token })
  t.teardown(() => back.stream.cancel())
  await writer.end()
  const there = async (where: object) => (await line.mongo.collection('books').find(where).toArray()).map(({ _id, version }) => `${_id} ${version}`).sort().join()
  const told = ({ has }: { has: Map<string, number> }) => [...has].map(([id, version]) => `${id} ${version}`).sort().join()
  const drained = async () => (await line.metric('projector', 'bifold_projector_lag_events')) === 0
  await until(drained, 'the projector')
  for (const [one, filter] of [...watchers.map((one, n) => [one, filters[n]!] as const), [back, {}] as const]) {
    await until(async () => told(one) === await there(filter), `it to be equal ${JSON.stringify(filter)}`)
    t.same(one.faults, [])
  }
  t.same(watchers.map(({ snapshots }) => snapshots), [3, 3], 'each switch is told as a snapshot')
  t.ok(back.snapshots >= 1)
})
