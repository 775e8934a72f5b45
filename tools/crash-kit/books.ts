/** The books in the load: added, alone and in batches, revised and withdrawn. */
import { randomUUID } from 'node:crypto'
import { advance, chance, command, expect, goesOn, read, rest, send, type Client, type Reply } from './client.ts'

export interface Book { readonly id: string, version: number, seen: number, withdrawn: boolean }

const booksMax = 200 // of each client: more than the versions of one, so that there are long histories
const batchLinesMax = 20 // a transaction has several lines, and a group lines of several batches
const sharedBooks = 5 // that all clients revise: the group commit has them together

/** One thing done with a book of the client's own, or with one of all. */
export async function keepBooks (self: Client, own: Book[]) {
  const { random, shared } = self
  const dice = random.between(1, 100)
  if (dice <= 30 || own.length === 0) await (chance(self, self.batched) ? addBatch(self, own) : add(self, own))
  else if (dice <= 40 && shared.length > 0) await reviseShared(self, random.of(shared))
  else if (dice <= 85) await revise(self, random.of(own))
  else if (dice <= 88) await withdraw(self, random.of(own))
  else await read(self, '/books', random.of(own))
  own.splice(0, own.length - booksMax)
}

const priced = ({ random }: Client) => ({ price: random.between(0, 1e9) })
const described = ({ price }: { price: number }) => ({ title: `Book ${price}`, authors: ['Crash'], price })
const whyRefused = ({ withdrawn }: Book) => ({ must: withdrawn ? ['BOOKS_WITHDRAWN'] : [] })

async function add (self: Client, own: Book[]) {
  const { shared } = self
  const answer = await command(self, 'add', '', described(priced(self)))
  if (answer === undefined) return
  (shared.length < sharedBooks ? shared : own).push(added(self, answer))
}

function added (self: Client, { id, version }: { id: string, version: number }): Book {
  expect(self, version === 1, `a new book has version ${version}`)
  return { id, version: 1, seen: 0, withdrawn: false }
}

/** Adds books in a batch, which is sent again with its key until each line is answered for good. */
async function addBatch (self: Client, own: Book[]) {
  const { random, record } = self
  const books = Array.from({ length: random.between(2, batchLinesMax) }, () => described(priced(self)))
  const body = books.map(book => JSON.stringify(book)).join('\n')
  const headers = { 'idempotency-key': randomUUID(), 'content-type': 'application/x-ndjson' }
  while (goesOn(self)) {
    const reply = await send(self, 'gateways', 'POST', '/books:batch', headers, body).catch(() => undefined) // nobody answered, or broke off
    const lines = (reply === undefined ? [] : reply.status === 200 ? reply.body : [reply]) as (Reply['body'] & { status: number })[]
    const wrong = lines.find(({ status }) => status !== 201 && status !== 503)
    if (wrong !== undefined) record.wrong.push(`add in a batch: ${JSON.stringify(wrong)}`)
    if (lines.length === books.length && lines.every(({ status }) => status === 201)) {
      record.batched += lines.length
      record.answered.push(...lines.map(({ id, version }, index) => ({ kind: 'add' as const, id, version, data: books[index]! })))
      own.push(...lines.map(line => added(self, line)))
      return
    }
    await rest(self)
  }
  record.unknown += books.length
}

async function revise (self: Client, book: Book) {
  // The same price by chance is no event; it happens once in a thousand million.
  const answer = await command(self, 'revise', `/${book.id}`, priced(self), whyRefused(book))
  if (answer !== undefined) advance(self, book, answer)
}

async function reviseShared (self: Client, book: Book) {
  await command(self, 'revise', `/${book.id}`, priced(self))
}

export async function withdraw (self: Client, book: Book) {
  const answer = await command(self, 'withdraw', `/${book.id}`, undefined, whyRefused(book))
  if (answer === undefined) return
  advance(self, book, answer)
  book.withdrawn = true
}
