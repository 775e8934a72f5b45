/** Listens for a gRPC server, and can stop doing so while the connections that are there go on, which grpc-js itself cannot. */
import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'
import { ServerCredentials, type Server } from '@grpc/grpc-js'

export interface Listener {
  /** What listens. Closed, it refuses new connections. A call that is sent away afterwards is tried again by its client, but only once: so on no connection that is sent away too. */
  readonly server: net.Server
  listen (where: { host: string, port: number, fd: number | undefined }): Promise<number>
  /** Resolves when it is closed, also if it has never listened, and the last connection has ended: grpc-js waits for those that it has listened for itself only. */
  readonly ended: Promise<void>
}

export function makeListener (server: Server, connectionsMax: number): Listener {
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const listening = net.createServer({ noDelay: true }, socket => injector.injectConnection(socket))
  listening.maxConnections = connectionsMax
  const ended = Promise.withResolvers<void>()
  listening.once('close', ended.resolve)
  return {
    server: listening,
    async listen (where) {
      listening.listen(where, connectionsMax) // as many may come at once; for a socket that it was given, Node reads no option
      await once(listening, 'listening')
      return (listening.address() as AddressInfo).port
    },
    ended: ended.promise
  }
}
