/** The whole system as processes under recorded load, for tests that stop parts of it: any number of each app, and the crash kit's load and checks. */
import { credentials } from '@grpc/grpc-js'
import getPort from 'get-port'
import type { Test } from 'tap'
import { booksV1 } from '@bifold/proto'
import { check } from '@bifold/tools/crash-kit/check'
import { startLoad, type Answered, type Load, type Record as LoadRecord, type Seen } from '@bifold/tools/crash-kit/load'
import { untilSettled } from '@bifold/tools/crash-kit/settle'
import { call, startProcess, until, type AppName, type AppProcess, type Settings } from './pipeline.ts'

/** One process of an app, which can be stopped and started again on the same ports. */
export interface Member {
  readonly app: AppName
  readonly url: string
  /** Where it answers over gRPC, if it does. */
  readonly grpc: string
  /** As an orchestrator stops it. */
  stop (): Promise<{ exitCode: number | undefined, tookMs: number }>
  /** Resolves when it is ready, or, with `ready` false, when it is started. */
  start (options?: { ready?: boolean }): Promise<void>
}

export interface System {
  readonly settings: Settings
  readonly members: readonly Member[]
  of (app: AppName): readonly Member[]
  /** A new client of all query services, with a connection of its own: it picks one, and another when that is gone, as gRPC clients do. */
  books (): booksV1.BookQueryServiceClient
  /** Adds a book and waits until the query service has it: then the whole way is open, and nothing old is in front. To be added to what the load has recorded. */
  through (): Promise<Answered>
  load (options: { clients: number, restMs: number }): Load & { readonly seen: Seen[] }
  /** Waits until all is ready and done, and compares what was answered with PostgreSQL, the topic and MongoDB. */
  verdict (t: Test, record: LoadRecord): Promise<void>
}

export type Counts = Readonly<Partial<Record<AppName, number>>>

const names = ['gateway', 'relay', 'projector', 'query'] as const

/** Starts so many processes of each app, one if not said otherwise, and waits until they are ready. */
export async function system (t: Test, settings: Settings, counts: Counts = {}): Promise<System> {
  const members: Member[] = []
  for (const name of names) {
    for (let index = 0; index < (counts[name] ?? 1); index++) {
      const one = await member(t, name, settings)
      await one.start({ ready: name !== 'relay' || index === 0 }) // a second relay stands by
      members.push(one)
    }
  }
  const of = (app: AppName) => members.filter(member => member.app === app)
  const books = () => {
    const client = new booksV1.BookQueryServiceClient(`ipv4:${of('query').map(({ grpc }) => grpc).join(',')}`, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 })
    t.teardown(() => client.close())
    return client
  }
  let seed = 1
  return {
    settings,
    members,
    of,
    books,
    async through () {
      const price = 1
      const added = await fetch(`${of('gateway')[0]!.url}/books`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ title: 'To be read at once', authors: ['Probe'], price }) })
      const { id, version } = await added.json() as { id: string, version: number }
      await until(async () => (await fetch(`${of('query')[0]!.url}/books/${id}`)).ok, 'a new book to be read')
      return { kind: 'add', id, version, data: { price } }
    },
    load ({ clients, restMs }) {
      const seen: Seen[] = []
      const load = startLoad({ gateways: of('gateway').map(({ url }) => url), queries: of('query').map(({ url }) => url), clients, restMs, seed: seed++, seen: request => seen.push(request) })
      let stopped: ReturnType<Load['stop']> | undefined
      const stop = async () => await (stopped ??= load.stop())
      t.teardown(stop)
      return { seen, stop }
    },
    async verdict (t, record) {
      const settled = await untilSettled({ processes: members }, Date.now(), () => {})
      for (const { what, count, first } of await check(settings, record, settled, of('query')[0]!.url)) t.equal(count, 0, `${what}${first.map(one => `; ${one}`).join('')}`)
    }
  }
}

async function member (t: Test, app: AppName, settings: Settings): Promise<Member> {
  const own = { ...settings, [`${app === 'query' ? 'QUERY_HTTP' : app.toUpperCase()}_PORT`]: await getPort(), QUERY_GRPC_PORT: await getPort() }
  // The crash kit's projector counts besides, which no later event can mend.
  const main = app === 'projector' ? 'tools/crash-kit/projector.ts' : undefined
  let running: AppProcess | undefined
  const url = `http://127.0.0.1:${own[app === 'query' ? 'QUERY_HTTP_PORT' : `${app.toUpperCase()}_PORT` as 'GATEWAY_PORT']}`
  return {
    app,
    url,
    grpc: `127.0.0.1:${own.QUERY_GRPC_PORT}`,
    async stop () {
      const begun = Date.now()
      running!.kill('SIGTERM')
      const { exitCode } = await running!.ended
      return { exitCode, tookMs: Date.now() - begun }
    },
    async start ({ ready = true } = {}) {
      running = await startProcess(t, app, own, main)
      await until(async () => await answersWell(`${url}/health/${ready ? 'ready' : 'live'}`), `${app} to be ready`)
    }
  }
}

/** @throws what it answered, if that is not well */
async function answersWell (url: string): Promise<true> {
  const response = await fetch(url)
  if (!response.ok) throw new Error(await response.text())
  return true
}

/** Asks for books over gRPC, one call after the other on each connection, until it is stopped or the test ends; tells what was no answer. */
export function callAll (t: Test, system: Pick<System, 'books'>, { callers, restMs }: { callers: number, restMs: number }) {
  const failed: { begun: number, ended: number, error: Error }[] = []
  let answered = 0
  const stopping = new AbortController()
  const done = Promise.all(Array.from({ length: callers }, async () => {
    const books = system.books()
    while (!stopping.signal.aborted) {
      const begun = Date.now()
      try {
        await call(books.batchGetBooks.bind(books), { ids: ['019a0000-0000-7000-8000-000000000000'] })
        answered++
      } catch (error) {
        failed.push({ begun, ended: Date.now(), error: error as Error })
      }
      await new Promise(resolve => setTimeout(resolve, restMs))
    }
  }))
  const stop = async () => {
    stopping.abort()
    await done
  }
  t.teardown(stop)
  return {
    failed,
    get answered () { return answered },
    stop
  }
}
