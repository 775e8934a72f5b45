/** Connections as no client library makes them, for the tests of hostile input. */
import http2 from 'node:http2'
import net from 'node:net'
import { setTimeout } from 'node:timers/promises'

/** What a server answers to bytes, until it closes the connection, or until so much time has passed. */
export async function raw (url: string, bytes: string | Buffer, { afterMs = 40_000 } = {}): Promise<string> {
  const { hostname, port } = new URL(url)
  const socket = net.connect(Number(port), hostname)
  let answer = ''
  socket.on('data', chunk => { answer += chunk.toString('latin1') }).on('error', () => {})
  socket.write(bytes)
  const timer = new AbortController()
  await Promise.race([new Promise(resolve => socket.once('close', resolve)), setTimeout(afterMs, undefined, { signal: timer.signal }).catch(() => {})])
  timer.abort()
  socket.destroy()
  return answer
}

/** The headers of a call. */
export const getBook = { ':method': 'POST', ':path': '/books.v1.BookQueryService/GetBook', 'content-type': 'application/grpc', te: 'trailers' }
export const listBooks = { ...getBook, ':path': '/books.v1.BookQueryService/ListBooks' }

/** A gRPC message on the wire: a flag that says whether it is compressed, its length, its bytes. */
export function frame (message: Buffer, compressed = 0): Buffer {
  const head = Buffer.from([compressed, 0, 0, 0, 0])
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

/** The grpc-status of a call with these bytes, or how else it ended. */
export async function unary (url: string, bytes: Buffer, headers: Record<string, string> = {}): Promise<string> {
  const session = http2.connect(url)
  session.on('error', () => {})
  const stream = session.request({ ...getBook, ...headers })
  const ended = new Promise<string>(resolve => {
    const tell = (headers: http2.IncomingHttpHeaders) => { if (headers['grpc-status'] !== undefined) resolve(String(headers['grpc-status'])) }
    stream.on('response', tell).on('trailers', tell).on('error', error => resolve(error.message)).on('close', () => resolve('closed')).resume()
  })
  stream.end(bytes)
  return await ended.finally(() => session.destroy())
}
