/** Health: live as long as the process answers; ready only if every check passes, with the reason if not. */
import fp from 'fastify-plugin'
import type { FastifyInstance } from 'fastify'

/** Resolves with details worth showing, or rejects with the reason why the app cannot do its work. */
export type Check = () => Promise<Record<string, unknown> | void>

export interface Health {
  add (name: string, check: Check): void
  ready (): Promise<{ ready: boolean, checks: Record<string, { ok: boolean, reason?: string }> }>
}

const checkTimeoutMs = 2000 // longer than a healthy server takes, shorter than a probe waits

export default fp(async app => {
  const checks = new Map<string, Check>()
  const health: Health = {
    add: (name, check) => { checks.set(name, check) },
    async ready () {
      const results = await Promise.all([...checks].map(async ([name, check]) => [name, await outcome(check)] as const))
      return { ready: results.every(([, { ok }]) => ok), checks: Object.fromEntries(results) }
    }
  }
  app.decorate('health', health)
  app.get('/health/live', { schema: { hide: true } as object }, async () => ({ status: 'live' }))
  app.get('/health/ready', { schema: { hide: true } as object }, async (_, reply) => {
    const { ready, checks } = await health.ready()
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ready' : 'not ready', checks })
  })
}, { name: 'health' })

export const healthOf = (app: FastifyInstance): Health => app.getDecorator<Health>('health')

async function outcome (check: Check) {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(`no answer within ${checkTimeoutMs} ms`)), checkTimeoutMs)
  try {
    return { ok: true, ...await Promise.race([check(), late.promise]) }
  } catch (error) {
    return { ok: false, reason: reason(error) }
  } finally {
    clearTimeout(timer)
  }
}

/** An error in one line; an AggregateError, as Node gives for a refused connection, has its message inside. */
export function reason (error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reason).join(', ')
  return error instanceof Error ? error.message || error.name : String(error)
}
