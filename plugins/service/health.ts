/** Health: live as long as the process answers; ready only if every check passes, with the reason if not. */
import fp from 'fastify-plugin'
import pTimeout from 'p-timeout'
import type { FastifyInstance } from 'fastify'
import type { Answers, Peers } from './workers.ts'

/** Resolves with details worth showing, or rejects with the reason why the app cannot do its work. */
export type Check = () => Promise<Record<string, unknown> | void>

export interface Health {
  add (name: string, check: Check): void
  /** Of all workers of the app. */
  ready (): Promise<Readiness>
}

export interface Readiness { readonly ready: boolean, readonly checks: Readonly<Record<string, { readonly ok: boolean, readonly reason?: string }>> }

const checkTimeoutMs = 2000 // longer than a healthy server takes, shorter than a probe waits

export default fp<{ peers: Peers | undefined }>(async (app, { peers }) => {
  const checks = new Map<string, Check>()
  const health: Health = {
    add: (name, check) => { checks.set(name, check) },
    ready: async () => peers === undefined ? await own() : await peers.ask<Readiness>('ready').then(merged, apart)
  }
  const own = async (): Promise<Readiness> => {
    const results = await Promise.all([...checks].map(async ([name, check]) => [name, await outcome(check)] as const))
    return { ready: results.every(([, { ok }]) => ok), checks: Object.fromEntries(results) }
  }
  const apart = async (error: unknown): Promise<Readiness> => ({ ready: false, checks: { ...(await own()).checks, workers: { ok: false, reason: reason(error) } } })
  peers?.answer('ready', own)
  app.decorate('health', health)
  app.get('/health/live', { schema: { hide: true } as object }, async () => ({ status: 'live' }))
  app.get('/health/ready', { schema: { hide: true } as object }, async (_, reply) => {
    const { ready, checks } = await health.ready()
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not ready', checks })
  })
}, { name: 'health' })

export const healthOf = (app: FastifyInstance): Health => app.getDecorator<Health>('health')

/** A check is passed if every worker passes it; the reason is that of one which does not. */
function merged ({ answers, starting, silent }: Answers<Readiness>): Readiness {
  const checks: Record<string, { ok: boolean, reason?: string }> = {}
  for (const [name, one] of answers.flatMap(({ checks }) => Object.entries(checks))) {
    if (checks[name]?.ok ?? true) checks[name] = one
  }
  const of = `of ${answers.length + starting + silent} workers`
  if (starting > 0) checks['workers'] = { ok: false, reason: `being started: ${starting} ${of}` }
  if (silent > 0) checks['workers'] = { ok: false, reason: `no answer from ${silent} ${of}` }
  return { ready: Object.values(checks).every(({ ok }) => ok), checks }
}

async function outcome (check: Check) {
  try {
    return { ok: true, ...await within(checkTimeoutMs, check()) }
  } catch (error) {
    return { ok: false, reason: reason(error) }
  }
}

/** What the work comes to, or an error after so many milliseconds: who asks for health or metrics is not to wait for a server that hangs. */
export const within = async <T>(milliseconds: number, work: Promise<T>): Promise<T> => await pTimeout(work, { milliseconds, message: `no answer within ${milliseconds} ms` })

/** An error in one line; an AggregateError, as Node gives for a refused connection, has its message inside. */
export function reason (error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reason).join(', ')
  return error instanceof Error ? error.message || error.name : String(error)
}
