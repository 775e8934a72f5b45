/** Mixed load that records every answer: commands that are repeated with their key until they are answered, and reads that may not go back in time. */
import { randomUUID } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import { Agent, request } from 'undici'
import { makeRandom, type Random } from './random.ts'

export interface LoadOptions { readonly gateway: string, readonly query: string, readonly clients: number, readonly seed: number }

type Kind = 'add' | 'revise' | 'withdraw'

/** A command that was answered with what it did. */
export interface Answered { readonly kind: Kind, readonly id: string, readonly version: number, readonly price: number }

export interface Record {
  readonly answered: Answered[]
  /** Commands that were refused for a reason, such as a book that is withdrawn. */
  refused: number
  /** Commands whose answer nobody waited for any more: done or not, both are right. */
  unknown: number
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
const sharedBooks = 5 // that all clients revise: the group commit has them together

interface Book { readonly id: string, version: number, seen: number, withdrawn: boolean }

export function startLoad (options: LoadOptions): Load {
  const record: Record = { answered: [], refused: 0, unknown: 0, reads: 0, wrong: [] }
  const shared: Book[] = []
  const agent = new Agent({ connections: options.clients, connect: { timeout: attemptMs }, headersTimeout: attemptMs, bodyTimeout: attemptMs })
  const stopping = { at: 0 }
  const clients = Array.from({ length: options.clients }, async (_, index) =>
    await client({ ...options, agent, record, shared, stopping, random: makeRandom(options.seed * 1000 + index) }))
  return {
    async stop () {
      stopping.at = Date.now()
      await Promise.all(clients)
      await agent.close()
      return record
    }
  }
}

interface Client extends LoadOptions { readonly agent: Agent, readonly record: Record, readonly shared: Book[], readonly stopping: { at: number }, readonly random: Random }

async function client (self: Client): Promise<void> {
  const { random, stopping, shared } = self
  const own: Book[] = []
  while (stopping.at === 0) {
    const dice = random.between(1, 100)
    if (dice <= 30 || own.length === 0) await add(self, own)
    else if (dice <= 40 && shared.length > 0) await reviseShared(self, random.of(shared))
    else if (dice <= 85) await revise(self, random.of(own))
    else if (dice <= 88) await withdraw(self, random.of(own))
    else await read(self, random.of(own))
    if (own.length > booksMax) own.splice(0, 1)
  }
}

async function add (self: Client, own: Book[]) {
  const { random, shared } = self
  const price = random.between(0, 1e9)
  const answer = await command(self, 'add', 'POST', '/books', { title: `Book ${price}`, authors: ['Crash'], price })
  if (answer === undefined) return
  check(self, answer.version === 1, `a new book has version ${answer.version}`)
  const book = { id: answer.id, version: 1, seen: 0, withdrawn: false }
  self.record.answered.push({ kind: 'add', ...answer, price })
  if (shared.length < sharedBooks) shared.push(book)
  else own.push(book)
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

async function read ({ query, agent, record }: Client, book: Book) {
  const response = await request(`${query}/books/${book.id}`, { dispatcher: agent }).catch(() => undefined)
  if (response === undefined) return
  const body = await response.body.json().catch(() => undefined) as { version?: number } | undefined
  record.reads++
  if (response.statusCode === 200 && body?.version !== undefined) {
    if (body.version < book.seen) record.wrong.push(`${book.id} was read at version ${book.seen}, and then at ${body.version}`)
    if (body.version > book.version && !book.withdrawn) record.unknown += 0 // a command of ours whose answer was given up has been done
    book.seen = body.version
  } else if (response.statusCode === 404 && book.seen > 0 && !book.withdrawn) {
    record.wrong.push(`${book.id} was read at version ${book.seen}, and then was not there`)
  }
}

function check ({ record }: Client, right: boolean, otherwise: string) {
  if (!right) record.wrong.push(otherwise)
}

/** Sends a command with its key until it is answered for good. */
async function command (self: Client, kind: Kind, method: 'POST' | 'PATCH' | 'DELETE', path: string, body?: object): Promise<{ id: string, version: number } | undefined> {
  const { gateway, agent, record, stopping, random } = self
  const headers = { 'idempotency-key': randomUUID(), ...body === undefined ? {} : { 'content-type': 'application/json' } }
  while (stopping.at === 0 || Date.now() < stopping.at + giveUpMs) {
    try {
      const response = await request(`${gateway}${path}`, { method, headers, dispatcher: agent, ...body === undefined ? {} : { body: JSON.stringify(body) } })
      const answer = await response.body.json() as { id: string, version: number, code?: string }
      if (response.statusCode < 300) return { id: answer.id, version: answer.version }
      if (response.statusCode < 500) {
        record.refused++
        if (answer.code !== 'BOOKS_WITHDRAWN' && answer.code !== 'BOOKS_NOT_FOUND') record.wrong.push(`${kind}: ${response.statusCode} ${JSON.stringify(answer)}`)
        return undefined
      }
      if (response.statusCode !== 503) record.wrong.push(`${kind}: ${response.statusCode} ${JSON.stringify(answer)}`)
    } catch {
      // Nobody answered: the gateway is down or paused, or was killed before it could.
    }
    await setTimeout(random.between(...againMs))
  }
  record.unknown++
  return undefined
}
