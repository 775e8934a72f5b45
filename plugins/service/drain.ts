/** Takes leave of an app's clients before it is closed: nobody new is let in, and each connection is closed with an answer that says so. */
import net from 'node:net'
import { setImmediate, setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Peers } from './workers.ts'

export interface Drain {
  /** Aborted when the leave begins: for who answers bit by bit, and so may take longer than an app waits. */
  readonly leaving: AbortSignal
  /** Adds how another port of the app is made to refuse new connections. */
  refusing (refuse: () => void): void
  /** Resolves when everybody has left, or has had the time for it; then the app is to be closed. */
  begin (): Promise<void>
}

const leadMs = 1000 // a request that was on its way when the signal came is here by then; a client that rests for longer finds its connection closed before it asks
const pollMs = 10

/** To be called while the app boots. */
export function makeDrain (app: FastifyInstance, peers: Peers | undefined): Drain {
  const { server } = app
  // Not the close of `http`: that ends the idle connections at once, also those with a request on its way.
  const refusing = [() => { if (server.listening) net.Server.prototype.close.call(server) }]
  const leaving = new AbortController()
  app.addHook('onSend', async (_, reply) => { if (leaving.signal.aborted) reply.header('connection', 'close') })
  // Also without a drain, as in tests: a connection that is kept alive after the last answer would hold up the close until it times out.
  app.addHook('preClose', async () => { leaving.abort() })
  return {
    leaving: leaving.signal,
    refusing: refuse => { refusing.push(refuse) },
    async begin () {
      // What the kernel has accepted for us is taken in the turn of the event loop that comes before; closed with the port, it would be reset.
      await setImmediate()
      for (const refuse of refusing) refuse()
      // Only then: a client that is sent away connects anew, and the port is to refuse it, and not to hand it to a worker that is leaving too.
      await peers?.refusing()
      leaving.abort()
      const over = AbortSignal.timeout(leadMs)
      while (!over.aborted && await connections(server) > 0) await setTimeout(pollMs)
    }
  }
}

export const drainOf = (app: FastifyInstance): Drain => app.getDecorator<Drain>('drain')

async function connections (server: net.Server): Promise<number> {
  return await new Promise((resolve, reject) => server.getConnections((error, count) => error === null ? resolve(count) : reject(error)))
}
