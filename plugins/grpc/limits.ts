/** Bounds the streams of a gRPC server: how many are open at once, and how long one may say and hear nothing. */
import { constants, type ServerHttp2Stream } from 'node:http2'
import type { ServerInterceptingCallInterface, ServerInterceptor } from '@grpc/grpc-js'

export interface StreamLimits {
  /** Open at once, over all connections. */
  readonly streamsMax: number
  /** Without a byte to or fro; then the stream is cancelled. */
  readonly silenceMs: number
}

export const streamLimits: StreamLimits = {
  streamsMax: 10_000, // ten clients with all that a connection may have; an idle one takes some 15 KB: 150 MB
  silenceMs: 30_000 // of a request that does not come, or an answer that is not fetched; as for HTTP
}

/**
 * An interceptor that wraps nothing: it looks at the stream under the call, and gives the call back as it is.
 * grpc-js has no setting for either limit, and would need a wrapper and a timer of ours for each call to tell when it ends.
 */
export function boundStreams ({ streamsMax, silenceMs }: StreamLimits = streamLimits): ServerInterceptor {
  let open = 0
  const closed = () => { open-- }
  return ({ path, requestStream }, call) => {
    const { stream } = call as unknown as { stream: ServerHttp2Stream }
    if (open >= streamsMax) {
      stream.close(constants.NGHTTP2_REFUSED_STREAM) // clients know that nothing was done, and try again
      return call as never
    }
    open++
    stream.once('close', closed)
    // A watcher of the health hears nothing for as long as all is well; whoever else is streamed to is told something in that time.
    if (requestStream || path !== '/grpc.health.v1.Health/Watch') stream.setTimeout(silenceMs, () => stream.close(constants.NGHTTP2_CANCEL))
    return call as ServerInterceptingCallInterface as never
  }
}
