/** Mixed load that records every answer: commands that are repeated with their key until they are answered, and reads that may not go back in time. */
import { setTimeout } from 'node:timers/promises'
import { Agent } from 'undici'
import { keepBooks, type Book } from './books.ts'
import { attemptMs, chance, type Client, type Kind } from './client.ts'
import { lend, type Desk } from './lending.ts'
import { makeRandom } from './random.ts'

export interface LoadOptions {
  /** Base URLs: a client goes on to the next one when a connection is refused, as behind a balancer. */
  readonly gateways: readonly string[]
  readonly queries: readonly string[]
  readonly clients: number
  readonly seed: number
  /** How many of a hundred commands go through the queue; none if not given. */
  readonly queued?: number
  /** How many of a hundred times that books are added it is a batch of them; none if not given. */
  readonly batched?: number
  /** How many of a hundred things that are done have to do with members and loans; none if not given. */
  readonly lending?: number
  /** How long each client rests between two requests; 0 if not given. */
  readonly restMs?: number
  /** How long a connection may rest before the client closes it; as long as the server allows, if not given. */
  readonly keepAliveMs?: number
  /** Told what became of each request. */
  readonly seen?: (request: Seen) => void
}

/** One request, from its beginning to its answer, or to the error without one. Times are of Date.now(). */
export interface Seen {
  readonly to: 'gateways' | 'queries'
  readonly begun: number
  readonly ended: number
  /** Where it was answered, or not. */
  readonly url: string
  readonly status?: number
  readonly retryAfter?: string
  readonly error?: string
}

/** A command that was answered with what it did; its event is to hold these data. */
export interface Answered { readonly kind: Kind, readonly id: string, readonly version: number, readonly data: object }

/** A command that was accepted into the queue. */
export interface Accepted {
  /** By which its outcome is asked for. */
  readonly id: string
  /** How many had been accepted before it was first sent: those on its aggregate are done before it. */
  readonly after: number
}

export interface Record {
  readonly answered: Answered[]
  /** Commands that were refused for a reason, such as a book that is withdrawn. */
  refused: number
  /** Commands whose answer nobody waited for any more: done or not, both are right. */
  unknown: number
  /** Commands that were accepted into the queue, in the order in which that was answered. */
  readonly queued: Accepted[]
  /** Commands that were lines of a batch. */
  batched: number
  reads: number
  /** What an answer or a read said that cannot be. */
  readonly wrong: string[]
}

export interface Load {
  /** Resolves when each command is answered, or was not answered for long. */
  stop (): Promise<Record>
}

export function startLoad (options: LoadOptions): Load {
  const record: Record = { answered: [], refused: 0, unknown: 0, queued: [], batched: 0, reads: 0, wrong: [] }
  const shared: Book[] = []
  const out = new Set<Book>()
  const { keepAliveMs } = options
  const agent = new Agent({ ...keepAliveMs === undefined ? {} : { keepAliveTimeout: keepAliveMs, keepAliveMaxTimeout: keepAliveMs }, connections: options.clients, connect: { timeout: attemptMs }, headersTimeout: attemptMs, bodyTimeout: attemptMs })
  const stopping = { at: 0 }
  const clients = Array.from({ length: options.clients }, async (_, index) =>
    await client({ ...options, agent, record, shared, out, stopping, random: makeRandom(options.seed * 1000 + index), at: { gateways: index, queries: index } }))
  return {
    async stop () {
      stopping.at = Date.now()
      await Promise.all(clients)
      await agent.close()
      return record
    }
  }
}

async function client (self: Client): Promise<void> {
  const own: Book[] = []
  const desk: Desk = { members: [], loans: [] }
  while (self.stopping.at === 0) {
    if (own.length > 0 && chance(self, self.lending)) await lend(self, desk, own)
    else await keepBooks(self, own)
    if (self.restMs !== undefined) await setTimeout(self.restMs)
  }
}
