/** Posts books to the gateway, and again while it is away or overloaded. */
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

export interface Gateway {
  /** Resolves if anything answers at the address. */
  reach (): Promise<void>
  /** Rejects if the gateway did not answer for long, or if the signal aborts between two attempts. */
  post (text: string, key: string, signal: AbortSignal): Promise<Answer>
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
  const request = async (options: Omit<Dispatcher.RequestOptions, 'origin'>) => {
    try {
      const { statusCode, headers, body } = await pool.request(options)
      return { status: statusCode, headers, text: await body.text() }
    } catch (cause) {
      throw new Unanswered(reason(cause), 0, { cause })
    }
  }
  return {
    reach: async () => { await request({ method: 'GET', path: new URL('health/live', base).pathname }) },
    async post (text, key, signal) {
      let answer: Answer | undefined
      try {
        await pRetry(async () => {
          answer = read(await request({ method: 'POST', path: new URL('books', base).pathname, headers: { 'content-type': 'application/json', 'idempotency-key': key }, body: text }))
        }, {
          signal,
          retries: Infinity, // the time is what bounds them
          maxRetryTime: retryMs,
          minTimeout: pauseMs.first,
          maxTimeout: pauseMs.longest,
          randomize: true,
          onFailedAttempt: async ({ error }) => { await setTimeout((error as Unanswered).retryAfterMs, undefined, { signal }) }
        })
      } catch (error) {
        // pRetry rejects when the signal aborts during an attempt, even if that attempt was answered.
        if (answer === undefined) throw error
      }
      return answer!
    },
    close: () => pool.close()
  }
}

const statusesToRetry = new Set([429, 502, 503, 504])
const statusesOfOthers = new Set([401, 403, 404, 405]) // the gateway has no such answer to POST /books

interface Response { status: number, headers: Record<string, string | string[] | undefined>, text: string }
interface Problem { code?: string, detail?: string, errors?: { path: string, message: string }[] }

function read ({ status, headers, text }: Response): Answer {
  if (status === 200 || status === 201) return { kind: headers['idempotency-replayed'] === 'true' ? 'already there' : 'added' }
  const { code = `HTTP_${status}`, detail = `The gateway answered ${status}`, errors = [] } = problem(text)
  if (statusesToRetry.has(status)) throw new Unanswered(`${status}: ${detail}`, retryAfterMs(headers['retry-after']))
  if (statusesOfOthers.has(status) || status < 400) throw new AbortError(`it answers ${status} to POST /books: is this the gateway's address?`)
  return { kind: 'refused', code, reasons: errors.length > 0 ? errors.map(({ path, message }) => `${path} ${message}`.trim()) : [detail] }
}

function problem (text: string): Problem {
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
