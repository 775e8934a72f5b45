/** Posts batches of books to the gateway, and what is not answered again while it is away, overloaded or being restarted. */
import { setTimeout } from 'node:timers/promises'
import pRetry, { AbortError } from 'p-retry'
import { Pool, type Dispatcher } from 'undici'
import { reason } from '@bifold/service'

/** What became of a line. Codes and sentences are the gateway's own. */
export type Answer =
  | { readonly kind: 'added' }
  /** An answer from before: an earlier run, or an attempt of this one whose answer was lost, had added it. */
  | { readonly kind: 'already there' }
  | { readonly kind: 'refused', readonly code: string, readonly reasons: readonly string[] }

export interface Keyed { readonly text: string, readonly key: string }

/** The answer of each line, undefined of one that has none; and then why. */
export interface Answers { readonly answers: readonly (Answer | undefined)[], readonly failure: string | undefined }

export interface Gateway {
  /** Resolves if anything answers at the address. */
  reach (): Promise<void>
  /** Resolves when each line is answered, or the gateway did not answer for long, or the signal aborts between two attempts. */
  post (lines: readonly Keyed[], signal: AbortSignal): Promise<Answers>
  close (): Promise<void>
}

export interface GatewayOptions { url: string, connections: number, retryMs?: number }

const retryMsMax = 60_000 // a restart of the gateway or a failover of PostgreSQL takes less
const pauseMs = { first: 200, longest: 5000 } // soon enough to go on at once; seldom enough not to be a burden
const retryAfterMsMax = 30_000 // half the time that a line is tried for
const connectMs = 5000 // a server that takes longer to accept is away
const answerMs = 30_000 // a transaction under full load takes far below a second

/** The gateway does not answer, or not now. */
class Unanswered extends Error {
  readonly retryAfterMs: number
  constructor (message: string, retryAfterMs = 0, options?: ErrorOptions) {
    super(message, options)
    this.retryAfterMs = retryAfterMs
  }
}

export function makeGateway ({ url, connections, retryMs = retryMsMax }: GatewayOptions): Gateway {
  const base = new URL(url.endsWith('/') ? url : `${url}/`)
  const pool = new Pool(base.origin, { connections, connect: { timeout: connectMs }, headersTimeout: answerMs, bodyTimeout: answerMs })
  const path = new URL('./books:batch', base).pathname
  return {
    reach: async () => { await (await pool.request({ method: 'GET', path: new URL('health/live', base).pathname })).body.dump() },
    async post (lines, signal) {
      const answers: (Answer | undefined)[] = lines.map(() => undefined)
      const attempt = async () => {
        const open = lines.flatMap((_, index) => answers[index] === undefined ? [index] : [])
        const body = open.map(index => withKey(lines[index]!)).join('\n')
        await unanswered(async () => await take(await pool.request({ method: 'POST', path, headers: { 'content-type': 'application/x-ndjson' }, body }), (line, answer) => { answers[open[line - 1]!] = answer }))
        if (answers.includes(undefined)) throw new Unanswered('the answer ended early')
      }
      try {
        await pRetry(attempt, {
          signal,
          retries: Infinity, // the time is what bounds them
          maxRetryTime: retryMs,
          minTimeout: pauseMs.first,
          maxTimeout: pauseMs.longest,
          randomize: true,
          onFailedAttempt: async ({ error }) => { await setTimeout((error as Unanswered).retryAfterMs, undefined, { signal }) }
        })
        return { answers, failure: undefined }
      } catch (error) {
        // pRetry rejects when the signal aborts during an attempt, even if that attempt was answered.
        return { answers, failure: answers.includes(undefined) ? reason(error) : undefined }
      }
    },
    close: () => pool.close()
  }
}

// As the last member of the object, so that the gateway tells the places of faults as they are in the file. What is no object needs no key.
function withKey ({ text, key }: Keyed): string {
  if (!text.startsWith('{') || !text.endsWith('}')) return text
  return `${text.slice(0, -1)}${/^\{\s*\}$/.test(text) ? '' : ','}"idempotencyKey":${JSON.stringify(key)}}`
}

/** Passes on our own errors; any other is of the connection. */
async function unanswered (request: () => Promise<void>): Promise<void> {
  try {
    await request()
  } catch (cause) {
    throw cause instanceof Unanswered || cause instanceof AbortError ? cause : new Unanswered(reason(cause), 0, { cause })
  }
}

interface LineAnswer { line?: number, status?: number, replayed?: boolean, code?: string, detail?: string, errors?: { path: string, message: string }[] }

/** Reads the answer of a batch, line by line as it comes. */
async function take ({ statusCode, headers, body }: Dispatcher.ResponseData, answered: (line: number, answer: Answer) => void): Promise<void> {
  if (statusCode !== 200) return refuse(statusCode, parsed(await body.text()), headers['retry-after'])
  let begun = ''
  let ended: LineAnswer | undefined
  for await (const chunk of body.setEncoding('utf8')) {
    const texts = (begun + chunk).split('\n')
    begun = texts.pop()!
    for (const found of texts.map(parsed)) {
      const answer = read(found)
      if (answer === undefined) ended = found
      else answered(found.line!, answer)
    }
  }
  if (ended !== undefined) throw new Unanswered(`${ended.status}: ${ended.detail}`)
}

const statusesToRetry = new Set([408, 429, 502, 503, 504])

function refuse (status: number, { detail = `The gateway answered ${status}` }: LineAnswer, retryAfter: string | string[] | undefined): never {
  if (statusesToRetry.has(status)) throw new Unanswered(`${status}: ${detail}`, retryAfterMs(retryAfter))
  throw new AbortError(`it answers ${status} to POST /books:batch: is this the gateway's address?`)
}

/** Undefined for what is no answer: to be asked again. */
function read ({ line, status = 0, replayed, code = `HTTP_${status}`, detail = `The gateway answered ${status}`, errors = [] }: LineAnswer): Answer | undefined {
  if (line === undefined || statusesToRetry.has(status)) return undefined
  if (status === 200 || status === 201) return { kind: replayed === true ? 'already there' : 'added' }
  return { kind: 'refused', code, reasons: errors.length > 0 ? errors.map(({ path, message }) => `${path} ${message}`.trim()) : [detail] }
}

function parsed (text: string): LineAnswer {
  try {
    return JSON.parse(text) ?? {}
  } catch {
    return {} // not the gateway's own answer: a proxy's page
  }
}

/** Seconds or a date (RFC 9110, 10.2.3). */
function retryAfterMs (header: string | string[] | undefined): number {
  if (typeof header !== 'string') return 0
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now()
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(ms, 0), retryAfterMsMax)
}
