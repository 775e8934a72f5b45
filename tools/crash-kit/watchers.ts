/** Some who watch the catalogue while everything crashes, leave now and then, and go on by their token. */
import { setTimeout } from 'node:timers/promises'
import { booksV1 } from '@bifold/proto'
import { createClient } from '@bifold/client'
import { connect } from '@bifold/mongo'
import { reason } from '@bifold/service'
import { makePicture, type Picture } from './picture.ts'
import { makeRandom, type Random } from './random.ts'

export interface WatchersOptions {
  /** A gRPC target. */
  readonly address: string
  readonly MONGO_URL: string
  readonly count: number
  readonly seed: number
}

/** What all of them were told. */
export interface Watched {
  readonly watchers: number
  readonly snapshots: number
  /** How often one began to watch with a token of its own; what the client goes over by itself is not counted. */
  readonly resumed: number
  readonly changes: number
  readonly lost: readonly string[]
  readonly doubled: readonly string[]
  readonly reordered: readonly string[]
}

export interface Watchers {
  /** Ends them when each shows what MongoDB has, or when that was waited for in vain. Only what is at rest can be equal. */
  stop (): Promise<Watched>
}

export const unwatched: Watched = { watchers: 0, snapshots: 0, resumed: 0, changes: 0, lost: [], doubled: [], reordered: [] }

const messagesMax = 50 // until one leaves: in some seconds of full work
const awayMs = [0, 2000] as const // so that there is something to catch up with
const settleMs = 30_000 // a connection that hangs is found out within this
const pollMs = 100

interface Watcher { readonly picture: Picture, readonly filter: object, readonly random: Random, resumed: number, failed: string[] }

export function startWatchers ({ address, MONGO_URL, count, seed }: WatchersOptions): Watchers {
  const client = createClient(booksV1.BookQueryServiceDefinition, address)
  const stopping = new AbortController()
  // With a filter that every book passes: it is another way through the service.
  const watchers = Array.from({ length: count }, (_, index): Watcher => ({ picture: makePicture(), filter: index % 2 === 0 ? {} : { author: 'Crash' }, random: makeRandom(seed * 1000 + 500 + index), resumed: 0, failed: [] }))
  const watching = watchers.map(async watcher => await watch(client, watcher, stopping.signal).catch(error => {
    if (!stopping.signal.aborted) watcher.failed.push(`a watcher was given up: ${reason(error)}`)
  }))
  return {
    async stop () {
      const lost = await read(MONGO_URL).then(async catalogue => await untilEqual(watchers, catalogue)).finally(async () => {
        stopping.abort()
        await Promise.all(watching)
        client.close()
      })
      const sum = (figure: (watcher: Watcher) => number) => watchers.reduce((sum, watcher) => sum + figure(watcher), 0)
      return {
        watchers: count,
        snapshots: sum(({ picture }) => picture.snapshots),
        resumed: sum(({ resumed }) => resumed),
        changes: sum(({ picture }) => picture.changes),
        lost,
        doubled: watchers.flatMap(({ picture }) => picture.doubled),
        reordered: watchers.flatMap(({ picture }) => picture.reordered)
      }
    }
  }
}

/** Waits until each has the whole catalogue, for some time, and gives what is other than there. */
async function untilEqual (watchers: readonly Watcher[], catalogue: ReadonlyMap<string, number>): Promise<string[]> {
  const differences = () => watchers.flatMap(({ picture, failed }) => [...failed, ...picture.differences(catalogue)])
  for (const end = Date.now() + settleMs; differences().length > 0 && Date.now() < end;) await setTimeout(pollMs)
  return differences()
}

type Client = ReturnType<typeof createClient<typeof booksV1.BookQueryServiceDefinition>>

async function watch (client: Client, watcher: Watcher, signal: AbortSignal): Promise<void> {
  const { picture, filter, random } = watcher
  let resumeToken = ''
  while (true) {
    let messages = random.between(1, messagesMax)
    for await (const told of client.watchBooks({ ...filter, resumeToken }, { signal })) {
      picture.take(told)
      resumeToken = told.resumeToken || (told.snapshotBegins ? '' : resumeToken) // none is good for a part of a snapshot
      if (--messages <= 0 && resumeToken !== '') break
    }
    watcher.resumed++
    await setTimeout(random.between(...awayMs), undefined, { signal })
  }
}

/** Each book's version in MongoDB. */
async function read (url: string): Promise<Map<string, number>> {
  const mongo = connect(url, 1)
  try {
    const books = await mongo.db().collection<{ _id: string, version: number }>('books').find({}, { projection: { version: 1 } }).toArray()
    return new Map(books.map(({ _id, version }) => [_id, version]))
  } finally {
    await mongo.close()
  }
}
