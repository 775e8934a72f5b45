/** How a client of the load asks: a command with its key until it is answered for good, and a read whose answer may not go back in time. */
import { randomUUID } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import { request, type Agent } from 'undici'
import type { Book } from './books.ts'
import type { LoadOptions, Record as LoadRecord, Seen } from './load.ts'
import type { Random } from './random.ts'

/** Each command: how it is asked for, of what, and the event that it leads to. */
export const kinds = {
  add: { method: 'POST', of: '/books', event: 'BookAdded' },
  revise: { method: 'PATCH', of: '/books', event: 'BookRevised' },
  withdraw: { method: 'DELETE', of: '/books', event: 'BookWithdrawn' },
  join: { method: 'POST', of: '/lending/members', event: 'MemberJoined' },
  suspend: { method: 'POST', of: '/lending/members', event: 'MemberSuspended' },
  reinstate: { method: 'POST', of: '/lending/members', event: 'MemberReinstated' },
  borrow: { method: 'POST', of: '/lending/loans', event: 'LoanOpened' },
  renew: { method: 'POST', of: '/lending/loans', event: 'LoanRenewed' },
  return: { method: 'POST', of: '/lending/loans', event: 'LoanReturned' }
} as const

export type Kind = keyof typeof kinds

export interface Client extends LoadOptions {
  readonly agent: Agent
  readonly record: LoadRecord
  readonly random: Random
  readonly stopping: { at: number }
  readonly at: { gateways: number, queries: number }
  /** The books that all clients revise, and want to borrow. */
  readonly shared: Book[]
  /** The books that are out for certain: borrowed, as was answered, and nobody has begun to return them. */
  readonly out: Set<Book>
}

/** What a command may be refused for, and what for it must be, as its client knows. */
export interface Refusals { readonly must?: readonly string[], readonly may?: readonly string[] }

/** A command, and what is known of it beforehand. */
export interface Asked { readonly kind: Kind, readonly path: string, readonly body?: object | undefined, readonly refusals?: Refusals | undefined }

export interface Done { readonly id: string, readonly version: number }

export interface Reply { readonly status: number, readonly body: { id: string, version: number, code?: string, command?: string } }

interface Outcome { readonly status?: 'queued' | 'succeeded' | 'refused', readonly result?: Reply['body'], readonly problem?: Reply['body'] & { status: number } }

export const attemptMs = 10_000 // a paused gateway is given up, and asked again
const giveUpMs = 60_000 // after the end everything runs again: who is not answered then never will be
const againMs = [20, 300] as const

export function expect ({ record }: Client, right: boolean, otherwise: string) {
  if (!right) record.wrong.push(otherwise)
}

/** Takes the version of an answer to a command of the only writer: the next one, or, where somebody else may write too, a later one. */
export function advance (self: Client, of: { readonly id: string, version: number }, { version }: { version: number }, others = 0) {
  expect(self, version > of.version && version <= of.version + 1 + others, `${of.id} was at ${of.version}, and what its only writer did is version ${version}`)
  of.version = version
}

/** So many times of a hundred. */
export const chance = ({ random }: Client, ofHundred = 0): boolean => ofHundred > 0 && random.between(1, 100) <= ofHundred

/** Whether an answer may still come. */
export const goesOn = ({ stopping }: Client): boolean => stopping.at === 0 || Date.now() < stopping.at + giveUpMs

export const rest = async ({ random }: Client) => await setTimeout(random.between(...againMs))

/** Sends a command until it is answered for good, and records what it did; undefined if it was refused. */
export async function command (self: Client, kind: Kind, path: string, body?: object, refusals?: Refusals): Promise<Done | undefined> {
  const asked = { kind, path, body, refusals }
  return await conclude(self, asked, await ask(self, asked, chance(self, self.queued)))
}

/** Sends commands through the queue, each when the one before is accepted, and asks only then what became of them: several of them wait there together. */
export async function inARow (self: Client, commands: readonly Asked[]): Promise<(Done | undefined)[]> {
  const replies: (Reply | undefined)[] = []
  for (const asked of commands) replies.push(await ask(self, asked, true))
  const done: (Done | undefined)[] = []
  for (const [index, asked] of commands.entries()) done.push(await conclude(self, asked, replies[index]))
  return done
}

/** Sends a command with its key until it is answered, or accepted into the queue. */
async function ask (self: Client, { kind, path, body }: Asked, queued: boolean): Promise<Reply | undefined> {
  const { record } = self
  const { method, of } = kinds[kind]
  const headers = { 'idempotency-key': randomUUID(), ...queued ? { prefer: 'respond-async' } : {}, ...body === undefined ? {} : { 'content-type': 'application/json' } }
  const after = record.queued.length
  while (goesOn(self)) {
    // Nobody answers if the gateway is down or paused, or was killed before it could.
    const reply = await send(self, 'gateways', method, `${of}${path}`, headers, body).catch(() => undefined) as Reply | undefined
    if (reply?.status === 202) record.queued.push({ id: reply.body.command!, after })
    if (reply !== undefined && reply.status < 500) return reply
    if (reply !== undefined && reply.status !== 503) record.wrong.push(`${kind}: ${reply.status} ${JSON.stringify(reply.body)}`)
    await rest(self)
  }
  return undefined
}

/** Records what a command did that was answered, or accepted: then its outcome is asked for first. */
async function conclude (self: Client, { kind, body = {}, refusals: { must = [], may = [] } = {} }: Asked, sent: Reply | undefined): Promise<Done | undefined> {
  const { record } = self
  const reply = sent?.status === 202 ? await outcome(self, sent.body.command!) : sent
  if (reply === undefined) {
    record.unknown++
    return undefined
  }
  if (reply.status < 300) {
    const { id, version } = reply.body
    expect(self, must.length === 0, `${kind} ${id} was done, and is to be refused with ${must.join(' or ')}`)
    record.answered.push({ kind, id, version, data: body })
    return { id, version }
  }
  record.refused++
  expect(self, [...must, ...may].includes(reply.body.code!), `${kind}: ${reply.status} ${JSON.stringify(reply.body)}`)
  return undefined
}

/** Asks what became of a command in the queue, until it is done: as if it had been answered itself. */
async function outcome (self: Client, id: string): Promise<Reply | undefined> {
  while (goesOn(self)) {
    const reply = await send(self, 'gateways', 'GET', `/commands/${id}`, { prefer: 'wait=2' }).catch(() => undefined) // nobody answered, as above
    const { status, result, problem } = (reply?.body ?? {}) as Outcome
    if (status === 'succeeded') return { status: 200, body: result! }
    if (status === 'refused') return { status: problem!.status, body: problem! }
    if (reply?.status === 404) return reply as Reply // it was accepted, and is not known: wrong, as any refusal for no reason
    await rest(self)
  }
  return undefined
}

/** Reads something, of one read model always: it may be late, and not go back. */
export async function read (self: Client, path: string, what: { readonly id: string, seen: number, readonly withdrawn?: boolean }) {
  const { record } = self
  const response = await send(self, 'queries', 'GET', `${path}/${what.id}`).catch(() => undefined)
  if (response === undefined) return
  const body = response.body as { version?: number } | undefined
  record.reads++
  if (response.status === 200 && body?.version !== undefined) {
    expect(self, body.version >= what.seen, `${what.id} was read at version ${what.seen}, and then at ${body.version}`)
    what.seen = body.version
  } else if (response.status === 404) {
    expect(self, what.seen === 0 || what.withdrawn === true, `${what.id} was read at version ${what.seen}, and then was not there`)
  }
}

/** One request, to the server that the last one went to; to the next one if that refuses the connection. */
export async function send (self: Client, to: Seen['to'], method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, headers: Readonly<{ [name: string]: string }> = {}, body?: object | string): Promise<{ status: number, body: unknown }> {
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
