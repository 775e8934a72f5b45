/**
 * Several processes of an app at one address: whoever starts them opens the sockets, holds them, and lets each process listen on
 * them, as systemd does (sd_listen_fds(3)). They share one queue of connections, so that none is refused or lost when one of them
 * stops or dies. Each has a port of its own besides, where it tells how it is.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { FastifyInstance } from 'fastify'

/** What whoever has started the process tells it. */
export interface Sharing {
  /** How many sockets it was given: the HTTP port's, and that of gRPC. */
  readonly LISTEN_FDS?: number
  /** Where it alone serves its health and its metrics. */
  readonly OWN_PORT?: number
}

const firstFd = 3 // as systemd's; those before are standard input, output and error
const order = ['http', 'grpc'] as const

/** The socket that the process was given, as an option of `listen`; nothing if it was given none. */
export const given = ({ LISTEN_FDS = 0 }: Sharing, socket: typeof order[number]): { fd?: number } =>
  order.indexOf(socket) < LISTEN_FDS ? { fd: firstFd + order.indexOf(socket) } : {}

/** Serves health and metrics on another port, too, from when the app is ready until it is closed. */
export function serveOwn (app: FastifyInstance, host: string, port: number): void {
  const own = createServer((request, response) => {
    if (/^\/(health\/|metrics)/.test(request.url ?? '')) app.routing(request, response)
    else response.writeHead(404).end()
  })
  app.addHook('onReady', async () => {
    own.listen(port, host)
    await once(own, 'listening')
  })
  app.addHook('onClose', async () => {
    own.close()
    own.closeAllConnections()
  })
}
