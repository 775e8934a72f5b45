/** Watches books over gRPC: many streams of which only the bytes are counted, as HTTP/2 frames, so that the load is not the bottleneck. */
import { connect, constants } from 'node:http2'

export interface Watching {
  /** That have come on all streams. */
  bytes (): number
  /** Streams that have ended. */
  ended (): number
  close (): void
}

const windowBytes = constants.DEFAULT_SETTINGS_INITIAL_WINDOW_SIZE * 16 // of a connection: a hundred streams share it

/** Opens streams of an RPC, spread over connections. */
export async function watchMany (target: string, path: string, request: Uint8Array, { streams, connections }: { streams: number, connections: number }): Promise<Watching> {
  const frame = Buffer.alloc(5 + request.length)
  frame.writeUInt32BE(request.length, 1)
  frame.set(request, 5)
  let [bytes, ended] = [0, 0]
  const sessions = await Promise.all(Array.from({ length: connections }, async () => {
    const session = connect(`http://${target}`, { settings: { enablePush: false } })
    await new Promise((resolve, reject) => session.once('connect', resolve).once('error', reject))
    session.setLocalWindowSize(windowBytes)
    return session
  }))
  for (let index = 0; index < streams; index++) {
    const stream = sessions[index % connections]!.request({ ':method': 'POST', ':path': path, ':scheme': 'http', ':authority': target, 'content-type': 'application/grpc', te: 'trailers' }, { endStream: false })
    stream.on('data', ({ length }: Buffer) => { bytes += length })
    stream.on('error', () => {})
    stream.on('close', () => { ended++ })
    stream.end(frame)
  }
  return {
    bytes: () => bytes,
    ended: () => ended,
    close: () => { for (const session of sessions) session.destroy() }
  }
}
