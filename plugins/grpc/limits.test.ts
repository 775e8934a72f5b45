/** What a connection may do, and how one is found out that nobody is behind any more: against a real server, by clients that no library is. */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import http2 from 'node:http2'
import net from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { build } from '@bifold/service'
import grpc, { grpcOf, type GrpcOptions } from './index.ts'

const keepalive = { timeMs: 200, timeoutMs: 200 } // in place of 80 s together
const patienceMs = 5000

async function serverOf (t: Test, options: Partial<GrpcOptions> = {}) {
  const app = await build(async app => { await app.register(grpc, { host: '127.0.0.1', port: 0, ...options }) }, {}, { name: 'grpc', logLevel: 'silent' })
  t.teardown(async () => await app.close())
  await app.ready()
  return grpcOf(app).port()
}

function sessionOf (t: Test, port: number) {
  const session = http2.connect(`http://127.0.0.1:${port}`)
  session.on('error', () => {})
  t.teardown(() => session.destroy())
  return session
}

const ping = async (session: http2.ClientHttp2Session) => await new Promise(resolve => { if (!session.ping(resolve)) resolve(undefined) })

async function checkHealth (session: http2.ClientHttp2Session) {
  const stream = session.request({ ':method': 'POST', ':path': '/grpc.health.v1.Health/Check', 'content-type': 'application/grpc', te: 'trailers' })
  stream.end(Buffer.alloc(5)) // an empty message
  const [trailers] = await once(stream.resume(), 'trailers')
  return trailers['grpc-status']
}

t.test('a connection may have a thousand calls at once, and is told so', async t => {
  const session = sessionOf(t, await serverOf(t))
  const [settings] = await once(session, 'remoteSettings')
  t.equal(settings.maxConcurrentStreams, 1000)
})

t.test('a connection on which nobody answers is closed, and one that answers is kept', async t => {
  const port = await serverOf(t, { keepalive })
  const alive = sessionOf(t, port)
  await once(alive, 'connect')
  const silent = net.connect(port, '127.0.0.1').on('error', () => {}).resume()
  silent.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  silent.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0])) // its settings, and that it has seen those of the server
  const closed = once(silent, 'close').then(() => true)
  t.ok(await Promise.race([closed, setTimeout(patienceMs, false, { ref: false })]))
  t.equal(await checkHealth(alive), '0')
})

t.test('a client that pings on and on is sent away, and told why', async t => {
  const session = sessionOf(t, await serverOf(t))
  const sent = once(session, 'goaway')
  await once(session, 'remoteSettings')
  for (let n = 0; n < 5; n++) session.ping(() => {})
  const [code, , data] = await sent
  t.equal(code, http2.constants.NGHTTP2_ENHANCE_YOUR_CALM)
  t.equal(String(data), 'too_many_pings')
})

t.test('pings among calls have their reason', async t => {
  const session = sessionOf(t, await serverOf(t))
  for (let n = 0; n < 10; n++) {
    t.equal(await checkHealth(session), '0')
    await ping(session)
  }
})
