/** Sends away a client that pings without need, as gRPC's proposal A8 has it: with GOAWAY, "too_many_pings", after which libraries ping half as often. */
import { constants, type Http2Server, type ServerHttp2Session } from 'node:http2'
import type { Server } from '@grpc/grpc-js'

const pingLimits = {
  intervalMs: 9_000, // gRPC's libraries let nobody ping more often than each 10 s, and timers are not exact
  strikesMax: 2, // as in gRPC's own servers
  ackBytes: 17 // the answer to a ping: where more has been sent since, the ping had its reason, such as to measure the way
}

/** To be called once the server has what it listens with. grpc-js has no setting for it, and shows its sessions to nobody; its version is pinned, and limits.test.ts fails if it has another shape. */
export function boundPings (server: Server): void {
  const { http2Servers } = server as unknown as { http2Servers: ReadonlyMap<Http2Server, unknown> }
  for (const http2 of http2Servers.keys()) http2.on('session', watch)
}

function watch (session: ServerHttp2Session) {
  let [last, written, strikes] = [-Infinity, 0, 0]
  session.on('ping', () => {
    const now = performance.now()
    const { bytesWritten = 0 } = session.socket
    const needed = bytesWritten - written > pingLimits.ackBytes
    strikes = needed || now - last >= pingLimits.intervalMs ? 0 : strikes + 1
    ;[last, written] = [now, bytesWritten]
    if (strikes <= pingLimits.strikesMax) return
    session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM, 0, Buffer.from('too_many_pings'))
    session.close() // what is in flight is answered
  })
}
