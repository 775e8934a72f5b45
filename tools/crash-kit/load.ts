/** Mixed load that records every answer: commands that are repeated with their key until they are answered, and reads that may not go back in time. */
import { randomUUID } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import { Agent, request } from 'undici'
import { makeRandom, type Random } from './random.ts'

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

type Kind = 'add' | 'revise' | 'withdraw'

/** A command that was answered with what it did. */
export interface Answered { readonly kind: Kind, readonly id: string, readonly version: number, readonly price: number }

export interface Record {
  readonly answered: Answered[]
  /** Commands that were refused for a reason, such as a book that is withdrawn. */
  refused: number
  /** Commands whose answer nobody waited for any more: done or not, both are right. */
  unknown: number
  /** Commands that were accepted into the queue. */
  queued: number
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

const attemptMs = 10_000 // a paused gateway is given up, and asked again
const giveUpMs = 60_000 // after the end everything runs again: who is not answered then never will be
const againMs = [20, 300] as const
const booksMax = 200 // of each client: more than the versions of one, so that there are long histories
const batchLinesMax = 20 // a transaction has several lines, and a group lines of several batches
const sharedBooks = 5 // that all clients revise: the group commit has them together

interface Book { readonly id: string, version: number, seen: number, withdrawn: boolean }

export function startLoad (options: LoadOptions): Load {
  const record: Record = { answered: [], refused: 0, unknown: 0, queued: 0, batched: 0, reads: 0, wrong: [] }
  const shared: Book[] = []
  const { keepAliveMs } = options
  const agent = new Agent({ ...keepAliveMs === undefined ? {} : { keepAliveTimeout: keepAliveMs, keepAliveMaxTimeout: keepAliveMs }, connections: options.clients, connect: { timeout: attemptMs }, headersTimeout: attemptMs, bodyTimeout: attemptMs })
  const stopping = { at: 0 }
  const clients = Array.from({ length: options.clients }, async (_, index) =>
    await client({ ...options, agent, record, shared, stopping, random: makeRandom(options.seed * 1000 + index), at: { gateways: index, queries: index } }))
  return {
    async stop () {
      stopping.at = Date.now()
      await Promise.all(clients)
      await agent.close()
      return record
    }
  }
}

interface Client extends LoadOptions { readonly agent: Agent, readonly record: Record, readonly shared: Book[], readonly stopping: { at: number }, readonly random: Random, readonly at: { gateways: number, queries: number } }

async function client (self: Client): Promise<void> {
  const { random, stopping, shared } = self
  const own: Book[] = []
  while (stopping.at === 0) {
    const dice = random.between(1, 100)
    if (dice <= 30 || own.length === 0) await (isBatch(self) ? addBatch(self, own) : add(self, own))
    else if (dice <= 40 && shared.length > 0) await reviseShared(self, random.of(shared))
    else if (dice <= 85) await revise(self, random.of(own))
    else if (dice <= 88) await withdraw(self, random.of(own))
    else await read(self, random.of(own))
    own.splice(0, own.length - booksMax)
    if (self.restMs !== undefined) await setTimeout(self.restMs)
  }
}

async function add (self: Client, own: Book[]) {
  const { random, shared } = self
  const price = random.between(0, 1e9)
  const answer = await command(self, 'add', 'POST', '/books', bookAt(price))
  if (answer === undefined) return
  const book = added(self, answer, price)
  if (shared.length < sharedBooks) shared.push(book)
  else own.push(book)
}

const bookAt = (price: number) => ({ title: `Book ${price}`, authors: ['Crash'], price })

/** Records that a book was added. */
function added (self: Client, { id, version }: { id: string, version: number }, price: number): Book {
  check(self, version === 1, `a new book has version ${version}`)
  self.record.answered.push({ kind: 'add', id, version, price })
  return { id, version: 1, seen: 0, withdrawn: false }
}

const isBatch = ({ random, batched = 0 }: Client): boolean => batched > 0 && random.between(1, 100) <= batched

/** Adds books in a batch, which is sent again with its key until each line is answered for good. */
async function addBatch (self: Client, own: Book[]) {
  const { random, record } = self
  const prices = Array.from({ length: random.between(2, batchLinesMax) }, () => random.between(0, 1e9))
  const body = prices.map(price => JSON.stringify(bookAt(price))).join('\n')
  const headers = { 'idempotency-key': randomUUID(), 'content-type': 'application/x-ndjson' }
  while (goesOn(self)) {
    const reply = await send(self, 'gateways', 'POST', '/books:batch', headers, body).catch(() => undefined) // nobody answered, or broke off
    const lines = (reply === undefined ? [] : reply.status === 200 ? reply.body : [reply]) as (Reply['body'] & { status: number })[]
    const wrong = lines.find(({ status }) => status !== 201 && status !== 503)
    if (wrong !== undefined) record.wrong.push(`add in a batch: ${JSON.stringify(wrong)}`)
    if (lines.length === prices.length && lines.every(({ status }) => status === 201)) {
      record.batched += lines.length
      own.push(...lines.map((line, index) => added(self, line, prices[index]!)))
      return
    }
    await setTimeout(random.between(...againMs))
  }
  record.unknown += prices.length
}

async function revise (self: Client, book: Book) {
  const price = self.random.between(0, 1e9)
  const answer = await command(self, 'revise', 'PATCH', `/books/${book.id}`, { price })
  if (answer === undefined) return
  // The same price by chance is no event; it happens once in a thousand million.
  check(self, answer.version === book.version + 1, `${book.id} was at ${book.version}, and its only writer's revision is version ${answer.version}`)
  check(self, !book.withdrawn, `${book.id} was withdrawn, and revised`)
  book.version = answer.version
  self.record.answered.push({ kind: 'revise', ...answer, price })
}

async function reviseShared (self: Client, book: Book) {
  const price = self.random.between(0, 1e9)
  const answer = await command(self, 'revise', 'PATCH', `/books/${book.id}`, { price })
  if (answer !== undefined) self.record.answered.push({ kind: 'revise', ...answer, price })
}

async function withdraw (self: Client, book: Book) {
  const answer = await command(self, 'withdraw', 'DELETE', `/books/${book.id}`)
  if (answer === undefined) return
  check(self, answer.version === book.version + 1, `${book.id} was at ${book.version}, and withdrawn as version ${answer.version}`)
  book.version = answer.version
  book.withdrawn = true
  self.record.answered.push({ kind: 'withdraw', ...answer, price: -1 })
}

async function read (self: Client, book: Book) {
  const { record } = self
  const response = await send(self, 'queries', 'GET', `/books/${book.id}`).catch(() => undefined)
  if (response === undefined) return
  const body = response.body as { version?: number } | undefined
  record.reads++
  if (response.status === 200 && body?.version !== undefined) {
    if (body.version < book.seen) record.wrong.push(`${book.id} was read at version ${book.seen}, and then at ${body.version}`)
    book.seen = body.version
  } else if (response.status === 404 && book.seen > 0 && !book.withdrawn) {
    record.wrong.push(`${book.id} was read at version ${book.seen}, and then was not there`)
  }
}

function check ({ record }: Client, right: boolean, otherwise: string) {
  if (!right) record.wrong.push(otherwise)
}

/** Whether an answer may still come. */
const goesOn = ({ stopping }: Client): boolean => stopping.at === 0 || Date.now() < stopping.at + giveUpMs

/** Sends a command with its key until it is answered for good. */
async function command (self: Client, kind: Kind, method: 'POST' | 'PATCH' | 'DELETE', path: string, body?: object): Promise<{ id: string, version: number } | undefined> {
  const { record, random, queued = 0 } = self
  const prefer = queued > 0 && random.between(1, 100) <= queued ? { prefer: 'respond-async' } : {}
  const headers = { 'idempotency-key': randomUUID(), ...prefer, ...body === undefined ? {} : { 'content-type': 'application/json' } }
  while (goesOn(self)) {
    try {
      const sent = await send(self, 'gateways', method, path, headers, body) as Reply
      if (sent.status === 202) record.queued++
      const { status, body: answer } = sent.status === 202 ? await outcome(self, sent.body.command!) : sent
      if (status < 300) return { id: answer.id, version: answer.version }
      if (status < 500) {
        record.refused++
        if (answer.code !== 'BOOKS_WITHDRAWN' && answer.code !== 'BOOKS_NOT_FOUND') record.wrong.push(`${kind}: ${status} ${JSON.stringify(answer)}`)
        return undefined
      }
      if (status !== 503) record.wrong.push(`${kind}: ${status} ${JSON.stringify(answer)}`)
    } catch {
      // Nobody answered: the gateway is down or paused, or was killed before it could.
    }
    await setTimeout(random.between(...againMs))
  }
  record.unknown++
  return undefined
}

interface Reply { readonly status: number, readonly body: { id: string, version: number, code?: string, command?: string } }
interface Outcome { readonly status?: 'queued' | 'succeeded' | 'refused', readonly result?: Reply['body'], readonly problem?: Reply['body'] & { status: number } }

/** Asks what became of a command in the queue, until it is done: as if it had been answered itself. */
async function outcome (self: Client, id: string): Promise<Reply> {
  while (goesOn(self)) {
    const reply = await send(self, 'gateways', 'GET', `/commands/${id}`, { prefer: 'wait=2' }).catch(() => undefined) // nobody answered, as above
    const { status, result, problem } = (reply?.body ?? {}) as Outcome
    if (status === 'succeeded') return { status: 200, body: result! }
    if (status === 'refused') return { status: problem!.status, body: problem! }
    if (reply?.status === 404) return reply as Reply // it was accepted, and is not known: wrong, as any refusal for no reason
    await setTimeout(self.random.between(...againMs))
  }
  throw new Error(`the command ${id} is not done`)
}

/** One request, to the server that the last one went to; to the next one if that refuses the connection. */
async function send (self: Client, to: Seen['to'], method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, headers: Readonly<{ [name: string]: string }> = {}, body?: object | string): Promise<{ status: number, body: unknown }> {
  const { agent, at, seen } = self
  const urls = self[to]
  const begun = Date.now()
  for (let refused = 1; ; refused++) {
    const url = urls[at[to] % urls.length]!
    try {
      const response = await request(`${url}${path}`, { method, headers, dispatcher: agent, ...body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) } })
      const answer = response.headers['content-type'] === 'application/x-ndjson' ? (await response.body.text()).trim().split('\n').map(line => JSON.parse(line)) : await response.body.json()
      seen?.({ to, begun, ended: Date.now(), url, status: response.statusCode, retryAfter: String(response.headers['retry-after'] ?? '') })
      return { status: response.statusCode, body: answer }
    } catch (error) {
      const { code = '', message } = error as { code?: string, message: string }
      if (code === 'ECONNREFUSED' && refused < urls.length) at[to]++
      else {
        seen?.({ to, begun, ended: Date.now(), url, error: `${code} ${message}` })
        throw error
      }
    }
  }
}
