/** Takes leave of an app's clients before it is closed: who waits at the port is let in, then nobody new is, and each connection is closed with an answer that says so. */
import net from 'node:net'
import { setImmediate, setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Peers } from './workers.ts'

export interface Drain {
  /** Aborted when the leave begins: for who answers bit by bit, and so may take longer than an app waits. */
  readonly leaving: AbortSignal
  /** Adds another port of the app. */
  port (server: net.Server): void
  /** Resolves when everybody has left, or has had the time for it; then the app is to be closed. */
  begin (): Promise<void>
}

const leadMs = 1000 // a request that was on its way when the signal came, or the last answer, is here by then; a client that rests for longer finds its connection closed before it asks
const leadMaxMs = 3000 // should requests come in on and on: each is the last of its connection, and who asks later was told long ago
const pollMs = 10
const restMs = 10 // whoever has just been answered, and connects anew for each request, has done so by then
const restsMs = 100 // where many strangers connect there is no rest, and requests are held meanwhile
const takingMs = 1000 // longer than it takes to take in as many as a port lets wait
const turnMs = 1 // a turn of the event loop in which little was done, as many are while requests are held

/** To be called while the app boots. */
export function makeDrain (app: FastifyInstance, peers: Peers | undefined): Drain {
  const { server } = app
  const ports: net.Server[] = []
  let taken = 0
  const port = (one: net.Server) => { ports.push(one.on('connection', () => { taken++ })) }
  port(server)
  let held: PromiseWithResolvers<void> | undefined
  let answeredAt = 0 // since the leave began
  const leaving = new AbortController()
  app.addHook('onRequest', (_, __, done) => {
    if (held === undefined) done()
    else void held.promise.then(() => done())
  })
  app.addHook('onSend', async (_, reply) => {
    if (!leaving.signal.aborted) return
    answeredAt = performance.now()
    reply.header('connection', 'close')
  })
  // Also without a drain, as in tests: a connection that is kept alive after the last answer would hold up the close until it times out.
  app.addHook('preClose', async () => { leaving.abort() })
  /** Waits for a turn in which nobody connects, and which takes no longer than `shortMs`; but not for longer than `longestMs`. */
  const quiet = async (turn: () => Promise<unknown>, longestMs: number, shortMs = Infinity) => {
    const over = AbortSignal.timeout(longestMs)
    for (let [before, begun] = [NaN, 0]; (before !== taken || performance.now() - begun > shortMs) && !over.aborted;) {
      before = taken
      begun = performance.now()
      await turn()
    }
  }
  return {
    leaving: leaving.signal,
    port,
    async begin () {
      // What waits at a port would be reset with it, and Node takes in one connection in a turn of its event loop. Nobody is answered meanwhile, or would connect anew, and so without end.
      held = Promise.withResolvers()
      await quiet(async () => await setTimeout(restMs), restsMs)
      await setImmediate() // the end of this turn; whole ones follow
      // The kernel resets who connects between the moment in which Node looks, at the beginning of a turn, and the close.
      await quiet(setImmediate, takingMs, turnMs)
      // Not the close of `http`: that ends the idle connections at once, also those with a request on its way.
      for (const one of ports) if (one.listening) net.Server.prototype.close.call(one)
      // A client that is sent away connects anew, and the port is to refuse it, and not to hand it to a worker that is leaving too.
      await peers?.refusing()
      held.resolve()
      held = undefined
      leaving.abort()
      answeredAt = performance.now()
      const end = answeredAt + leadMaxMs
      const isOver = () => performance.now() > Math.min(answeredAt + leadMs, end)
      while (!isOver() && await connections(server) > 0) await setTimeout(pollMs)
    }
  }
}

export const drainOf = (app: FastifyInstance): Drain => app.getDecorator<Drain>('drain')

async function connections (server: net.Server): Promise<number> {
  return await new Promise((resolve, reject) => server.getConnections((error, count) => error === null ? resolve(count) : reject(error)))
}
