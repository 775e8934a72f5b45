/** Calls a unary RPC as fast as it is answered, a fixed number of calls at a time: HTTP/2 frames without a client's comforts, so that the load is not the bottleneck. */
import { connect, constants, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2'
import { performance } from 'node:perf_hooks'
import type { Result } from './result.ts'
import { latenciesOf, makeHistogram } from './latencies.ts'

export interface GrpcLoad {
  /** Host and port. */
  readonly target: string
  /** Such as `/books.v1.BookQueryService/GetBook`. */
  readonly path: string
  /** The encoded requests, taken in turn. */
  readonly requests: readonly Uint8Array[]
  /** The consistency token of each request. */
  readonly tokens?: readonly string[]
  /** Calls in flight, spread over the connections. */
  readonly concurrency: number
  readonly connections: number
  readonly durationMs: number
}

/** Five bytes before each message: not compressed, and its length. */
function framed (message: Uint8Array): Buffer {
  const frame = Buffer.alloc(5 + message.length)
  frame.writeUInt32BE(message.length, 1)
  frame.set(message, 5)
  return frame
}

/** @returns what was answered within the duration */
export async function runGrpc ({ target, path, requests, tokens, concurrency, connections, durationMs }: GrpcLoad): Promise<Result> {
  const bodies = requests.map(framed)
  const latency = makeHistogram()
  const sessions = await Promise.all(Array.from({ length: connections }, async () => await open(`http://${target}`)))
  const headers = { ':method': 'POST', ':path': path, ':scheme': 'http', ':authority': target, 'content-type': 'application/grpc', te: 'trailers' }
  const begun = performance.now()
  const end = begun + durationMs
  let [next, done, errors, inFlight] = [0, 0, 0, 0]
  await new Promise<void>(resolve => {
    const call = (session: ClientHttp2Session) => {
      const at = performance.now()
      if (at >= end) {
        if (inFlight === 0) resolve()
        return
      }
      inFlight++
      const which = next++ % bodies.length
      const stream = session.request(tokens === undefined ? headers : { ...headers, 'consistency-token': tokens[which] }, { endStream: false })
      let status: unknown
      const told = (headers: IncomingHttpHeaders) => { status = headers['grpc-status'] ?? status }
      stream.on('response', told) // an error before any message is all in one
      stream.on('trailers', told)
      stream.on('error', () => {})
      stream.on('close', () => {
        inFlight--
        const now = performance.now()
        if (status !== '0') errors++
        else if (now < end) {
          done++
          latency.recordValue(Math.max(1, Math.round((now - at) * 1000)))
        }
        call(session)
      })
      stream.resume()
      stream.end(bodies[which])
    }
    for (let index = 0; index < concurrency; index++) call(sessions[index % sessions.length]!)
  })
  for (const session of sessions) session.close()
  return { perSecond: done / durationMs * 1000, errors, latencyMs: latenciesOf(latency) }
}

async function open (url: string): Promise<ClientHttp2Session> {
  const session = connect(url, { settings: { enablePush: false } })
  await new Promise((resolve, reject) => session.once('connect', resolve).once('error', reject))
  session.setLocalWindowSize(constants.DEFAULT_SETTINGS_INITIAL_WINDOW_SIZE * 100)
  return session
}
