/** The books in the load: added, alone and in batches, revised and withdrawn. */
import { randomUUID } from 'node:crypto'
import { advance, chance, command, expect, goesOn, inARow, read, rest, send, type Asked, type Client, type Reply } from './client.ts'

export interface Book { readonly id: string, version: number, seen: number, withdrawn: boolean }

const booksMax = 200 // of each client: more than the versions of one, so that there are long histories
const batchLinesMax = 20 // a transaction has several lines, and a group lines of several batches
const coauthors = Array.from({ length: 20 }, (_, index) => `Author ${index}`) // few: each has books of many clients, in all partitions
const languages = ['eng', 'fas', 'ara', 'kor']
const years = [1990, 2009] as const
const recounted = 25 // so many of a hundred revisions change more than the price
const inARowMax = 5 // revisions that wait in the queue together
const withdrawnOfHundred = 10 // rows of them with a withdrawal at the end: whatever comes after it is refused
const sharedBooks = 5 // that all clients revise: the group commit has them together

/** One thing done with a book of the client's own, or with one of all. */
export async function keepBooks (self: Client, own: Book[]) {
  const { random, shared } = self
  const dice = random.between(1, 100)
  if (dice <= 30 || own.length === 0) await (chance(self, self.batched) ? addBatch(self, own) : add(self, own))
  else if (dice <= 40 && shared.length > 0) await reviseShared(self, random.of(shared))
  else if (dice <= 85) await (chance(self, self.queued) ? reviseInARow : revise)(self, random.of(own))
  else if (dice <= 88) await withdraw(self, random.of(own))
  else await read(self, '/books', random.of(own))
  own.splice(0, own.length - booksMax)
}

const priced = ({ random }: Client) => ({ price: random.between(0, 1e9) })

/** What counts in the statistics of authors: one whom all books have, and others. */
const counted = ({ random }: Client) => ({
  authors: ['Crash', ...Array.from({ length: random.between(0, 2) }, () => random.of(coauthors))],
  language: random.of(languages),
  publishedYear: random.between(...years)
})

function described (self: Client) {
  const { price } = priced(self)
  return { title: `Book ${price}`, ...counted(self), price }
}

const whyRefused = ({ withdrawn }: Book) => ({ must: withdrawn ? ['BOOKS_WITHDRAWN'] : [] })

async function add (self: Client, own: Book[]) {
  const { shared } = self
  const answer = await command(self, 'add', '', described(self))
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
  const books = Array.from({ length: random.between(2, batchLinesMax) }, () => described(self))
  const body = books.map(book => JSON.stringify(book)).join('\n')
  const headers = { 'idempotency-key': randomUUID(), 'content-type': 'application/x-ndjson' }
  const acknowledged = new Map<number, string>()
  while (goesOn(self)) {
    const reply = await send(self, 'gateways', 'POST', '/books:batch', headers, body).catch(() => undefined) // nobody answered, or broke off
    const lines = (reply === undefined ? [] : reply.status === 200 ? reply.body : [reply]) as (Reply['body'] & { status: number, line: number })[]
    const wrong = lines.find(({ status }) => status !== 201 && status !== 503)
    if (wrong !== undefined) record.wrong.push(`add in a batch: ${JSON.stringify(wrong)}`)
    for (const { status, line, id } of lines) {
      if (status !== 201) continue
      const before = acknowledged.get(line) ?? id
      expect(self, before === id, `line ${line} of a batch was answered with ${before}, and then with ${id}`)
      acknowledged.set(line, id)
    }
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

// The same price by chance is no event; it happens once in a thousand million.
const changes = (self: Client) => ({ ...priced(self), ...chance(self, recounted) ? counted(self) : {} })

async function revise (self: Client, book: Book) {
  const answer = await command(self, 'revise', `/${book.id}`, changes(self), whyRefused(book))
  if (answer !== undefined) advance(self, book, answer)
}

async function reviseInARow (self: Client, book: Book) {
  const [path, refusals] = [`/${book.id}`, whyRefused(book)]
  const revisions = Array.from({ length: self.random.between(2, inARowMax) }, (): Asked => ({ kind: 'revise', path, body: changes(self), refusals }))
  const withdrawal: Asked[] = chance(self, withdrawnOfHundred) ? [{ kind: 'withdraw', path, refusals }] : []
  const answers = await inARow(self, [...revisions, ...withdrawal])
  for (const answer of answers) if (answer !== undefined) advance(self, book, answer)
  if (withdrawal.length > 0 && answers.at(-1) !== undefined) book.withdrawn = true
}

async function reviseShared (self: Client, book: Book) {
  await command(self, 'revise', `/${book.id}`, { ...priced(self), ...counted(self) })
}

export async function withdraw (self: Client, book: Book) {
  const answer = await command(self, 'withdraw', `/${book.id}`, undefined, whyRefused(book))
  if (answer === undefined) return
  advance(self, book, answer)
  book.withdrawn = true
}
