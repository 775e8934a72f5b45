/** gRPC: decorates `grpc`, a server with the standard health and reflection services, which listens when the app is ready. */
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import fp from 'fastify-plugin'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import protoLoader from '@grpc/proto-loader'
import { ReflectionService } from '@grpc/reflection'
import { HealthImplementation, protoPath as healthProto } from 'grpc-health-check'
import type { FastifyInstance } from 'fastify'
import { protoRoot } from '@bifold/proto'
import { healthOf } from '@bifold/service'
import { boundStreams } from './streams.ts'

export interface GrpcOptions { host: string, port: number }

export interface Grpc {
  readonly server: Server
  /** The port it listens on, once the app is ready. */
  readonly port: () => number
}

const closeMs = 5000 // calls under way end within, or are cancelled
const healthMs = 1000 // how soon a watcher hears of a change
const connectionsMax = 2000 // a client needs one, with up to 1,000 calls at once; more are closed at once
const serverOptions = {
  'grpc.max_receive_message_length': 1024 * 1024, // a request for 1,000 ids has 40 KB
  'grpc.max_concurrent_streams': 1000, // of one client; more wait at the client
  'grpc.keepalive_time_ms': 60_000, // finds clients that went away without a word
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.max_connection_idle_ms': 300_000 // without a call for so long; clients connect again by themselves
}

export default fp<GrpcOptions>(async (app, { host, port }) => {
  const server = new Server({ ...serverOptions, interceptors: [boundStreams()] })
  // A listener of our own, since that of grpc-js takes any number of connections.
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const listener = createServer({ noDelay: true }, socket => injector.injectConnection(socket))
  Object.assign(listener, { maxConnections: connectionsMax, dropMaxConnection: true }) // dropped, not handed round, as in plugins/service
  let bound = 0
  app.decorate('grpc', { server, port: () => bound } satisfies Grpc)

  const files = readdirSync(protoRoot, { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.proto') && !file.includes('node_modules'))
  // keepCase: reflection must tell the names as the .proto files have them.
  const definitions = protoLoader.loadSync([...files, healthProto], { keepCase: true, includeDirs: [protoRoot, join(healthProto, '../..')] })
  new ReflectionService(definitions as never).addToServer(server)

  const health = new HealthImplementation({ '': 'NOT_SERVING' })
  health.addToServer(server)
  let timer: NodeJS.Timeout | undefined
  let closing = false
  const tell = async () => {
    const { ready } = await healthOf(app).ready()
    if (closing) return
    health.setStatus('', ready ? 'SERVING' : 'NOT_SERVING')
    timer = setTimeout(tell, healthMs)
  }
  app.addHook('onReady', async () => {
    await once(listener.listen({ port, host, backlog: connectionsMax }), 'listening')
    bound = (listener.address() as AddressInfo).port
    app.log.info({ host, port: bound }, 'gRPC server listening')
    void tell() // not waited for: a server that is away must not hold up the boot
  })
  app.addHook('preClose', async () => {
    closing = true
    clearTimeout(timer)
    health.setStatus('', 'NOT_SERVING')
    listener.close()
    await shutdown(server)
  })
}, { name: 'grpc', dependencies: ['health'] })

export const grpcOf = (app: FastifyInstance): Grpc => app.getDecorator<Grpc>('grpc')

async function shutdown (server: Server) {
  const timer = setTimeout(() => server.forceShutdown(), closeMs)
  await new Promise<void>(resolve => server.tryShutdown(() => resolve()))
  clearTimeout(timer)
}
