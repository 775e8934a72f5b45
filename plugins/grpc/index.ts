/** gRPC: decorates `grpc`, a server with the standard health and reflection services, which listens when the app is ready. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import fp from 'fastify-plugin'
import { Server } from '@grpc/grpc-js'
import protoLoader from '@grpc/proto-loader'
import { ReflectionService } from '@grpc/reflection'
import { HealthImplementation, protoPath as healthProto } from 'grpc-health-check'
import type { FastifyInstance } from 'fastify'
import { protoRoot } from '@bifold/proto'
import { drainOf, healthOf } from '@bifold/service'
import { boundStreams } from './limits.ts'
import { linked } from './linked.ts'
import { makeListener, type Listener } from './listener.ts'
import { boundPings } from './pings.ts'
import { makeStreams, type Streams } from './streams.ts'

export { streamLimits } from './limits.ts'

export interface GrpcOptions {
  host: string
  port: number
  /** A socket that was opened by somebody else, in the place of host and port. */
  fd?: number
  /** A connection without a sign for so long is asked for one, and closed if none comes. */
  keepalive?: { timeMs: number, timeoutMs: number }
}

export interface Grpc {
  readonly server: Server
  /** What services are to be added to whose streams are ended with a status when the app closes. */
  readonly services: Streams['server']
  /** The port it listens on, once the app is ready. */
  readonly port: () => number
}

const closeMs = 5000 // calls under way end within, or are cancelled
const healthMs = 1000 // how soon a watcher hears of a change
const connectionsMax = 2000 // a client needs one, with up to 1,000 calls at once; more are closed at once
const keepaliveDefault = { timeMs: 60_000, timeoutMs: 20_000 } // finds clients that went away without a word
const serverOptions = {
  'grpc.max_receive_message_length': 1024 * 1024, // a request for 1,000 ids has 40 KB
  'grpc.max_concurrent_streams': 1000, // of one client; more wait at the client
  'grpc.max_connection_idle_ms': 300_000 // without a call for so long; clients connect again by themselves
}

export default fp<GrpcOptions>(async (app, { host, port, fd, keepalive = keepaliveDefault }) => {
  const server = new Server({ ...serverOptions, 'grpc.keepalive_time_ms': keepalive.timeMs, 'grpc.keepalive_timeout_ms': keepalive.timeoutMs, interceptors: [boundStreams()] })
  const listener = makeListener(server, connectionsMax)
  boundPings(server)
  let bound = 0
  const streams = makeStreams(server)
  app.decorate('grpc', { server, services: streams.server, port: () => bound } satisfies Grpc)

  const files = readdirSync(protoRoot, { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.proto') && !file.includes('node_modules'))
  // keepCase: reflection must tell the names as the .proto files have them.
  const definitions = protoLoader.loadSync([...files, healthProto], { keepCase: true, includeDirs: [protoRoot, join(healthProto, '../..')] })
  new ReflectionService(linked(definitions) as never).addToServer(streams.server)

  const health = new HealthImplementation({ '': 'NOT_SERVING' })
  health.addToServer(streams.server as Server)
  let timer: NodeJS.Timeout | undefined
  let closing = false
  const tell = async () => {
    const { ready } = await healthOf(app).ready()
    if (closing) return
    health.setStatus('', ready ? 'SERVING' : 'NOT_SERVING')
    timer = setTimeout(tell, healthMs)
  }
  app.addHook('onReady', async () => {
    bound = await listener.listen({ host, port, fd })
    app.log.info({ host, port: bound }, 'gRPC server listening')
    void tell() // not waited for: a server that is away must not hold up the boot
  })
  drainOf(app).port(listener.server)
  app.addHook('preClose', async () => {
    closing = true
    clearTimeout(timer)
    health.setStatus('', 'NOT_SERVING')
    listener.server.close()
    streams.end() // a watcher stays for ever, and its connection would be cut
    await shutdown(server, listener)
  })
}, { name: 'grpc', dependencies: ['health'] })

export { boundStreams }
export const grpcOf = (app: FastifyInstance): Grpc => app.getDecorator<Grpc>('grpc')

async function shutdown (server: Server, { ended }: Listener) {
  const timer = setTimeout(() => server.forceShutdown(), closeMs)
  await Promise.all([new Promise<void>(resolve => server.tryShutdown(() => resolve())), ended])
  clearTimeout(timer)
}
