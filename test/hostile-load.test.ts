/** More than an app bears: endless requests, streams and connections, and clients that never read. The memory of each process stays bounded, and it goes on. */
import http2, { type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2'
import net from 'node:net'
import { setTimeout } from 'node:timers/promises'
import getPort from 'get-port'
import { sql } from 'kysely'
import { MongoClient } from 'mongodb'
import t, { type Test } from 'tap'
import { Agent, request } from 'undici'
import { connect } from '@bifold/postgres'
import { emptyReadModels, startProcess, stores, until, type Settings } from './pipeline.ts'
import { frame, getBook, listBooks, raw, unary } from './raw.ts'

/** An app alone in a process, so that the memory is its own and not that of its clients. */
async function processOf (t: Test, name: 'gateway' | 'query', prepare: (settings: Settings) => Promise<void> = async () => {}) {
  const settings = await stores(t)
  await emptyReadModels(settings)
  await prepare(settings)
  settings.QUERY_GRPC_PORT = await getPort()
  const { url } = await startProcess(t, name, settings)
  const ready = async () => (await fetch(`${url}/health/ready`)).status === 200
  await until(ready, `${name} to be ready`)
  const memory = async () => Number(/^process_resident_memory_bytes (.+)$/m.exec(await (await fetch(`${url}/metrics`)).text())![1])
  const before = await memory()
  return {
    url,
    grpc: `http://127.0.0.1:${settings.QUERY_GRPC_PORT}`,
    settings,
    /** Does something to the app, and tells its largest memory meanwhile as a multiple of before; it is ready afterwards. */
    async during (t: Test, what: string, work: () => Promise<void>): Promise<number> {
      let largest = before
      const done = new AbortController()
      const watching = (async () => {
        while (!done.signal.aborted) {
          largest = Math.max(largest, await memory())
          await setTimeout(100)
        }
      })()
      await work()
      done.abort()
      await watching
      largest = Math.max(largest, await memory())
      t.ok(await ready(), `${name} is ready after ${what}`)
      t.comment(`${what}: ${(before / 1e6).toFixed(0)} MB before, ${(largest / 1e6).toFixed(0)} MB at most`)
      return largest / before
    }
  }
}

const open = (url: string, count: number, opened: (socket: net.Socket) => void = () => {}) => {
  const { hostname, port } = new URL(url)
  return Array.from({ length: count }, () => {
    const socket = net.connect(Number(port), hostname)
    return socket.on('error', () => {}).on('connect', () => opened(socket)).resume()
  })
}

/** Opens connections, and counts those that the server closes. */
async function dropped (url: string, total: number, expected: number): Promise<number> {
  const sockets = open(url, total)
  const closed = () => sockets.filter(({ closed }) => closed).length
  await until(async () => closed() >= expected, `${expected} of ${total} connections to be closed`)
  await setTimeout(500) // time for more than there should be
  const count = closed()
  for (const socket of sockets) socket.destroy()
  return count
}

// All but the first take turns beside it: it mostly waits, and each has an app of its own.
t.jobs = 2
const beside = () => ({ buffered: true }) // a new one each, since tap writes into it

t.test('a client that asks for much and never reads is given up', beside(), async t => {
  const app = await processOf(t, 'query')
  const [deaf] = open(app.url, 1, socket => {
    socket.pause()
    socket.write('GET /docs/static/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(50))
  })
  await setTimeout(85_000) // Node looks after 40 s whether anything has moved, and after 80 s once more
  let read = 0
  deaf!.on('data', chunk => { read += chunk.length }).resume()
  await until(async () => deaf!.closed, 'the end of what was sent')
  t.ok(read < 50_000_000, `it was given up: ${(read / 1e6).toFixed(1)} MB of 70`)
})

t.test('a flood of large commands: some are refused, to be sent again, and exactly the others are stored', beside(), async t => {
  const app = await processOf(t, 'gateway')
  const body = JSON.stringify({ title: 'Large', authors: Array.from({ length: 100 }, (_, index) => String(index).padEnd(200, '語')), description: '語'.repeat(10_000) })
  t.ok(Buffer.byteLength(body) > 80_000)
  const agent = new Agent({ connections: 2000, headersTimeout: 60_000 })
  t.teardown(async () => await agent.destroy())
  const answers: Record<string, number> = {}
  const ratio = await app.during(t, '2,000 commands of 90 KB at once', async () => {
    await Promise.all(Array.from({ length: 2000 }, async () => {
      const { statusCode, headers, body: answer } = await request(`${app.url}/books`, { method: 'POST', dispatcher: agent, headers: { 'content-type': 'application/json' }, body })
      await answer.dump()
      const kind = `${statusCode}${headers['retry-after'] === undefined ? '' : ', try again'}`
      answers[kind] = (answers[kind] ?? 0) + 1
    }))
  })
  const { 201: done = 0, '503, try again': refused = 0, ...others } = answers
  t.same(others, {}, 'no other answer')
  t.comment(`${done} done, ${refused} refused`)
  t.ok(ratio < 4, `memory: ${ratio}`)
  const db = connect(app.settings.POSTGRES_URL, 1)
  t.teardown(async () => await db.destroy())
  t.same((await sql`select (select count(*)::int from books) as books, (select count(*)::int from events) as events`.execute(db)).rows, [{ books: done, events: done }])
})

t.test('a thousand bodies that stop short of their end', beside(), async t => {
  const app = await processOf(t, 'gateway')
  const part = `POST /books HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 120000\r\n\r\n${'{"title":"'.padEnd(100_000, 'x')}`
  const ratio = await app.during(t, '1,000 bodies of 100 KB that do not end', async () => {
    const sockets = open(app.url, 1000, socket => socket.write(part))
    await until(async () => sockets.every(({ bytesWritten, writableLength }) => bytesWritten > 0 && writableLength === 0), 'them to be sent')
    await setTimeout(500)
    for (const socket of sockets) socket.destroy()
  })
  t.ok(ratio < 3, `memory: ${ratio}`)
})

t.test('a connection that asks on and on, and does not wait for answers, is closed', beside(), async t => {
  const app = await processOf(t, 'query')
  const ratio = await app.during(t, '20,000 lists asked for at once over one connection', async () => {
    const answer = await raw(app.url, 'GET /books HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(20_000), { afterMs: 20_000 })
    t.ok((answer.match(/HTTP\/1.1/g) ?? []).length < 2000, 'most were not answered')
  })
  t.ok(ratio < 2, `memory: ${ratio}`)
  const connections = 40 // of 90 requests each, as many as one connection may have under way
  const ratioOfMany = await app.during(t, '3,600 lists over 40 connections', async () => {
    const answers = (await Promise.all(Array.from({ length: connections }, async () => await raw(app.url, `${'GET /books HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(89)}GET /books HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`)))).join('')
    const statuses = [...answers.matchAll(/HTTP\/1.1 (\d+) /g)].map(([, status]) => status)
    t.equal(statuses.length, 90 * connections, 'all are answered')
    t.same([...new Set(statuses)].filter(status => status !== '200' && status !== '503'), [])
    t.equal((answers.match(/HTTP\/1.1 503 [^{]*retry-after/g) ?? []).length, statuses.filter(status => status === '503').length)
  })
  t.ok(ratioOfMany < 3, `memory: ${ratioOfMany}`)
})

t.test('more connections than are taken', beside(), async t => {
  const [gateway, query] = [await processOf(t, 'gateway'), await processOf(t, 'query')]
  t.ok(await gateway.during(t, '5,300 connections', async () => { t.ok(await dropped(gateway.url, 5300, 300) < 400) }) < 3)
  t.ok(await query.during(t, '2,300 gRPC connections', async () => { t.ok(await dropped(query.grpc, 2300, 300) < 400) }) < 3)
  t.equal(await unary(query.grpc, frame(Buffer.alloc(0))), '3', 'and afterwards one is taken')
})

const idle = (session: ClientHttp2Session, count: number): ClientHttp2Stream[] => Array.from({ length: count }, () => session.request(getBook).on('error', () => {}))

t.test('thousands of idle streams', beside(), async t => {
  const app = await processOf(t, 'query')
  // Beside them, a watcher of the health, which may be silent.
  const watching = http2.connect(app.grpc)
  const watcher = watching.request({ ...getBook, ':path': '/grpc.health.v1.Health/Watch' })
  watcher.end(frame(Buffer.alloc(0)))
  watcher.resume()
  const sessions = Array.from({ length: 15 }, () => http2.connect(app.grpc).on('error', () => {}))
  t.teardown(() => { for (const session of [watching, ...sessions]) session.destroy() })
  const ratio = await app.during(t, '15,000 idle streams', async () => {
    const streams = sessions.flatMap(session => idle(session, 1000))
    const ended = (code: number) => streams.filter(({ closed, rstCode }) => closed && rstCode === code).length
    await until(async () => ended(http2.constants.NGHTTP2_REFUSED_STREAM) >= 5000, 'those beyond 10,000 to be refused')
    await setTimeout(34_000) // an idle one is given 30 s
    t.equal(streams.filter(({ closed }) => closed).length, 15_000, 'all are ended')
    t.ok(ended(http2.constants.NGHTTP2_REFUSED_STREAM) < 5100)
    t.ok(ended(http2.constants.NGHTTP2_CANCEL) > 9900, 'those that were taken, for their silence')
  })
  t.ok(ratio < 3, `memory: ${ratio}`)
  t.notOk(watcher.closed, 'the watcher still watches')
  t.equal(await unary(app.grpc, frame(Buffer.alloc(0))), '3', 'there is room again')
})

t.test('streams that are begun and cancelled, ten thousand of them', beside(), async t => {
  const app = await processOf(t, 'query')
  const ratio = await app.during(t, '10,000 streams begun and cancelled', async () => {
    for (let round = 0; round < 10; round++) {
      const session = http2.connect(app.grpc).on('error', () => {})
      for (const stream of idle(session, 1000)) stream.close(http2.constants.NGHTTP2_CANCEL)
      await setTimeout(100)
      session.destroy()
    }
  })
  t.ok(ratio < 2, `memory: ${ratio}`)
  t.equal(await unary(app.grpc, frame(Buffer.alloc(0))), '3')
})

const statuses = (streams: readonly ClientHttp2Stream[]) => {
  const found: Record<string, number> = {}
  for (const stream of streams) {
    const tell = (headers: http2.IncomingHttpHeaders) => {
      const status = headers['grpc-status']
      if (status !== undefined) found[String(status)] = (found[String(status)] ?? 0) + 1
    }
    stream.on('response', tell).on('trailers', tell)
  }
  return found
}

t.test('2,000 pages of the largest books at once, from clients that read them and from clients that never do', beside(), async t => {
  const app = await processOf(t, 'query', async ({ MONGO_URL }) => {
    const mongo = await MongoClient.connect(MONGO_URL)
    await mongo.db().collection<{ _id: string }>('books').insertMany(Array.from({ length: 200 }, (_, index) => ({ _id: String(index), version: 1, title: 'Large', authors: ['x'], description: '語'.repeat(10_000) })))
    await mongo.close()
  })
  const request = frame(Buffer.from([0x30, 0xe8, 0x07])) // page_size 1,000
  const ask = () => {
    const sessions = [http2.connect(app.grpc), http2.connect(app.grpc)]
    t.teardown(() => { for (const session of sessions) session.destroy() })
    const streams = sessions.flatMap(session => Array.from({ length: 1000 }, () => session.request(listBooks).on('error', () => {})))
    for (const stream of streams) stream.end(request)
    return { streams, found: statuses(streams) }
  }
  const ratio = await app.during(t, '2,000 pages of 3 MB, which are read', async () => {
    const { streams, found } = ask()
    for (const stream of streams) stream.resume()
    await until(async () => streams.every(({ closed }) => closed), 'all to be answered')
    const { 0: done = 0, 4: late = 0 } = found
    t.comment(`${done} answered, ${late} after their deadline`)
    t.ok(done > 20, 'some are answered')
    t.equal(done + late, 2000, 'the others hear that there was no time')
  })
  t.ok(ratio < 7, `memory: ${ratio}`)
  const ratioOfDeaf = await app.during(t, '2,000 pages of 3 MB, which are not read', async () => {
    const { found } = ask()
    await setTimeout(7000) // the deadline is 5 s
    t.ok(found['4']! > 1900, 'most hear that there was no time')
    t.equal(await unary(app.grpc, frame(Buffer.from('\n\x24019a0000-0000-7000-8000-000000000000'))), '5', 'a point read is answered meanwhile')
    t.equal(await unary(app.grpc, frame(Buffer.alloc(0)), listBooks), '0', 'and so is a list')
  })
  t.ok(ratioOfDeaf < 7, `memory: ${ratioOfDeaf}`)
  const ratioOfCut = await app.during(t, '400 pages of 3 MB over HTTP, cut off in the midst of their answers', async () => {
    for (let round = 0; round < 5; round++) await Promise.all(Array.from({ length: 2 }, async () => await raw(app.url, 'GET /books?pageSize=1000 HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(40), { afterMs: 1000 })))
    t.equal((await fetch(`${app.url}/books?pageSize=1000`)).status, 200, 'they take up no room any more')
  })
  t.ok(ratioOfCut < 7, `memory: ${ratioOfCut}`)
})
