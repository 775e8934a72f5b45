/** Runs a Fastify app as a process: logger, request ids, health, metrics, graceful close. With workers.ts and interrupt.ts, the only place that touches `process`. */
import { randomUUID } from 'node:crypto'
import closeWithGrace from 'close-with-grace'
import Fastify, { LogController, type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { pino, type DestinationStream } from 'pino'
import problem, { clientError, urlError } from '@bifold/problem'
import background from './background.ts'
import { drainOf, makeDrain } from './drain.ts'
import health from './health.ts'
import { onInterrupt } from './interrupt.ts'
import metrics, { counted } from './metrics.ts'
import { given, hold, serveOwn, type Sharing } from './sharing.ts'
import { makePeers, supervise, type Peers } from './workers.ts'

export interface Listen {
  name: string
  host: string
  port: number
  /** That of gRPC, if the app has one. */
  grpcPort?: number
  logLevel: string
  /** Processes that share the ports. */
  workers?: number
  /** It is one process, whatever `workers` says. */
  alone?: boolean
}

export interface Naming { name: string, logLevel: string, logTo?: DestinationStream, peers?: Peers | undefined }

/** An app: a function that registers its plugins. */
export type App<Config> = (app: FastifyInstance, config: Config) => Promise<void>

const closeMs = 15_000 // what was accepted is answered well within; below the 30 s that orchestrators wait before they kill
const leadMs = 2000 // the workers' last moments, after they have closed
const bodyBytesMax = 128 * 1024 // a book with every field at its bound has 90 KB in UTF-8
const requestMs = 30_000 // a client that takes longer to send its request is not coming
const headersMs = 10_000 // and one that takes longer for its headers
const silenceMs = 40_000 // and one on whose connection nothing moves takes no answer; longer than a slow request has, which is to be told so
const checkMs = 5000 // how often Node looks for such clients
const paramCharactersMax = 2000 // of a part of a path: a name of 200 characters, each written as nine
const headerBytesMax = 64 * 1024 // a URL with 1,000 ids has 41 KB
const pipelinedMax = 100 // requests of a connection that wait for their answers; clients that pipeline have ten
const connectionsMax = 5000 // some 50 MB if all of them are idle; more are closed at once

/** Builds an app without listening: what tests call, and `serve`. */
export async function build<Config> (app: App<Config>, config: Config, { name, logLevel, logTo, peers }: Naming): Promise<FastifyInstance> {
  const server = Fastify({
    logger: { level: logLevel, name, redact: ['req.headers.authorization', 'req.headers.cookie'], ...logTo && { stream: logTo } },
    logController: new LogController({ disableRequestLogging: true }), // a line for each request would cost more than the request; failures are logged
    genReqId: request => requestId(request.headers['x-request-id']),
    bodyLimit: bodyBytesMax,
    routerOptions: { maxParamLength: paramCharactersMax },
    requestTimeout: requestMs,
    http: { maxHeaderSize: headerBytesMax, headersTimeout: headersMs, connectionsCheckingInterval: checkMs },
    connectionTimeout: silenceMs,
    clientErrorHandler: clientError,
    frameworkErrors: urlError,
    forceCloseConnections: 'idle',
    return503OnClosing: false, // what still comes in on a connection is answered, and then the connection is closed
    ajv: { customOptions: { allErrors: true, removeAdditional: false, coerceTypes: false, useDefaults: false } }
  })
  server.server.maxConnections = connectionsMax
  boundPipelining(server)
  letWait(server)
  server.addHook('onRequest', async (request, reply) => { reply.header('x-request-id', request.id) })
  server.decorate('drain', makeDrain(server, peers))
  server.removeContentTypeParser('text/plain') // Fastify takes it by default; nothing of ours does
  await server.register(problem)
  await server.register(health, { peers })
  await server.register(metrics, { peers })
  await server.register(background)
  await server.register(fp(async child => app(child, config), { name: `${name}-app` }))
  return server
}

/** Builds an app, listens, and closes it on SIGINT, SIGTERM, an uncaught error, or when the process that supervises it is gone. */
export async function serve<Config extends Sharing> (app: App<Config>, config: Config, listen: Listen): Promise<void> {
  const { workers = 1, alone = false } = listen
  if (config.BIFOLD_WORKER === undefined && workers > 1 && !alone) return await lead(config, listen)
  const peers = config.BIFOLD_WORKER === undefined ? undefined : makePeers()
  const server = await build(app, config, { ...listen, peers })
  if (config.OWN_PORT !== undefined) serveOwn(server, { host: listen.host, port: config.OWN_PORT, ...given(config, 'own') })
  if (alone && workers > 1) server.log.info({ workers }, 'it stays one process, whatever WORKERS says')
  const close = makeClose(closeMs, server.log, async ({ signal, err }) => {
    if (err) server.log.fatal({ err }, 'closing after an error')
    else server.log.info({ signal }, 'closing')
    await drainOf(server).begin()
    await server.close()
  })
  if (peers === undefined) process.once('disconnect', close)
  else peers.onClose(close)
  process.title = `bifold-${listen.name}`
  await server.listen({ host: listen.host, port: listen.port, ...given(config, 'http') })
  peers?.listening()
}

/** Closes on a signal or an uncaught error, and when it is told to: once, though Ctrl-C reaches the workers, too, and npm passes it on. */
function makeClose (delay: number, logger: FastifyBaseLogger, close: (why: { signal?: string, err?: Error }) => Promise<void>): () => void {
  let begun = false
  const grace = closeWithGrace({ delay, logger, skip: ['SIGINT'] }, async why => {
    begun = true
    await close(why)
  })
  const once = () => { if (!begun) void grace.close() }
  onInterrupt(once, 1)
  return once
}

/** Closes a connection that sends on and on without waiting for answers: Node would take in any number of requests. */
function boundPipelining (server: FastifyInstance) {
  const open = new WeakMap<object, number>()
  const change = (socket: object, by: number): number => {
    const now = (open.get(socket) ?? 0) + by
    open.set(socket, now)
    return now
  }
  server.addHook('onRequest', (request, _, done) => {
    if (change(request.raw.socket, 1) <= pipelinedMax) done()
    else request.raw.socket.destroy() // and nothing is done for it
  })
  server.addHook('onResponse', (request, _, done) => {
    change(request.raw.socket, -1)
    done()
  })
}

/** As many connections as may be open may come at once: with Node's 511, a burst would have some reset, those of the probes too. */
function letWait ({ server }: FastifyInstance) {
  const listen = server.listen.bind(server) as (options: object, backlog: number) => void
  // The second argument, which Fastify does not give: for a socket that it was given, Node reads no option.
  Object.assign(server, { listen: (options: object) => { listen(options, connectionsMax) } })
}

/** The process that the workers belong to: it holds their ports and keeps them running, and answers nobody itself. */
async function lead (sharing: Sharing, { name, host, port, grpcPort, logLevel, workers = 1 }: Listen): Promise<void> {
  const log = pino({ level: logLevel, name })
  const { stop } = supervise(workers, await hold(host, { http: port, ...grpcPort !== undefined && { grpc: grpcPort }, ...sharing.OWN_PORT !== undefined && { own: sharing.OWN_PORT } }, sharing), log, { metrics: counted })
  process.once('disconnect', makeClose(closeMs + leadMs, log, stop))
  process.title = `bifold-${name}`
  log.info({ workers }, 'started')
}

// A client's own id if it is a sane one, so that its logs and ours can be joined.
function requestId (given: string | string[] | undefined): string {
  return typeof given === 'string' && /^[\w.:/+=-]{1,128}$/.test(given) ? given : randomUUID()
}
