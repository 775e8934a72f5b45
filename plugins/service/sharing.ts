/**
 * Several processes of an app at one address: whoever starts them opens the sockets, holds them, and lets each process listen on
 * them, as systemd does (sd_listen_fds(3)). They share one queue of connections, so that none is refused or lost when one of them
 * stops or dies. Each may have a port of its own besides, where it tells how it is.
 */
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { closeSync } from 'node:fs'
import { createServer } from 'node:http'
import net from 'node:net'
import { getSystemErrorName } from 'node:util'
import type { FastifyInstance } from 'fastify'

export type SocketName = 'http' | 'grpc' | 'own'

/** What whoever has started the process tells it. */
export interface Sharing {
  /** The names of the sockets that it was given, with a colon between them. */
  readonly LISTEN_FDNAMES?: string
  /** Where it alone serves its health and its metrics. */
  readonly OWN_PORT?: number
  /** Which of the workers it is, if it is one (./workers.ts). */
  readonly BIFOLD_WORKER?: number
}

const firstFd = 3 // as systemd's; those before are standard input, output and error

/** The socket of this name that the process was given, as an option of `listen`; nothing if it was given none. */
export function given ({ LISTEN_FDNAMES = '' }: Sharing, name: SocketName): { fd?: number } {
  const index = LISTEN_FDNAMES.split(':').indexOf(name)
  return index === -1 ? {} : { fd: firstFd + index }
}

/** A socket that is held for others to listen on. It takes no connections in itself, but as long as it is open, none is refused. */
export interface Socket { readonly fd: number, close (): void }

export type Sockets = Readonly<Partial<Record<SocketName, Socket>>>

/** The sockets for processes that this one starts: those that it was given itself, and otherwise new ones at these ports. */
export async function hold (host: string, ports: Readonly<Partial<Record<SocketName, number>>>, sharing: Sharing = {}): Promise<Sockets> {
  const held = async ([name, port]: [string, number]) => {
    const { fd } = given(sharing, name as SocketName)
    return [name, fd === undefined ? await bind(host, port) : inherited(fd)]
  }
  return Object.fromEntries(await Promise.all(Object.entries(ports).map(held)))
}

/** How sockets are handed to a process: the descriptors go into its `stdio` after the first three. */
export const handed = (sockets: Sockets) => ({ env: { LISTEN_FDNAMES: Object.keys(sockets).join(':') }, fds: Object.values(sockets).map(({ fd }) => fd) })

export function closeAll (sockets: Sockets): void {
  for (const socket of Object.values(sockets)) socket.close()
}

const inherited = (fd: number): Socket => ({ fd, close: () => { closeSync(fd) } })

/** A socket as Node makes it; `getsockname` gives 0, or the number of an error. */
interface Made extends Socket { getsockname (into: object): number }

/** Node has no documented way to bind a socket without taking connections in, as a `net.Server` would; its own `cluster` makes the sockets that its workers share in the same way. */
async function bind (host: string, port: number): Promise<Socket> {
  const { address, family } = await lookup(host)
  const made = (net as unknown as { _createServerHandle (address: string, port: number, family: number): Made | number })._createServerHandle(address, port, family)
  const unbound = (code: number) => new Error(`Port ${port} of ${host} cannot be bound: ${getSystemErrorName(code)}`)
  if (typeof made === 'number') throw unbound(made)
  // That a port is taken, libuv tells only to the next who asks. Unasked, the workers would listen on a port of nobody's choice, at all addresses.
  const late = made.getsockname({})
  if (late === 0) return made
  made.close()
  throw unbound(late)
}

/** Serves health and metrics on another port, too, from when the app is ready until it is closed. */
export function serveOwn (app: FastifyInstance, where: { host: string, port: number, fd?: number }): void {
  const own = createServer((request, response) => {
    if (/^\/(health\/|metrics)/.test(request.url ?? '')) app.routing(request, response)
    else response.writeHead(404).end()
  })
  app.addHook('onReady', async () => {
    own.listen(where)
    await once(own, 'listening')
  })
  app.addHook('onClose', async () => {
    own.close()
    own.closeAllConnections()
  })
}
