/** Operations whose connection closes: each goes on over another one, and none waits for ever. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { connect as dial, createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { stores, until } from '@bifold/test'
import { connect } from './index.ts'

const longMs = 10_000 // an operation that goes on takes milliseconds

/** A client through a proxy, with one connection for operations: that connection's end here, and the driver's. */
async function clientThroughProxy (t: Test) {
  const { MONGO_URL } = await stores(t)
  const own: Socket[] = []
  const note = (message: unknown) => { own.push((message as { socket: Socket }).socket) }
  subscribe('net.client.socket', note)
  t.teardown(() => unsubscribe('net.client.socket', note))
  const ends = new Set<Socket>()
  let latest: Socket
  const server = createServer(socket => {
    const onward = dial(Number(new URL(MONGO_URL).port), '127.0.0.1')
    for (const end of [socket, onward]) ends.add(end.on('error', () => {}).on('close', () => { socket.destroy(); onward.destroy() }))
    socket.on('data', () => { latest = socket }).pipe(onward).pipe(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const end of ends) end.destroy()
  })
  const client = connect(`mongodb://127.0.0.1:${(server.address() as AddressInfo).port}/?directConnection=true`, 1)
  t.teardown(async () => await client.close())
  const books = client.db(new URL(MONGO_URL).pathname.slice(1)).collection('books')
  await until(async () => await books.findOne() === null, 'a connection')
  return { books, there: latest!, here: own.find(({ localPort }) => localPort === latest.remotePort)! }
}

/** What became of it, if anything did. */
const outcome = async (operation: Promise<unknown>) => await Promise.race([operation, setTimeout(longMs, 'waits', { ref: false })])

t.test('a read that is sent when its connection is destroyed and has not closed', async t => {
  const { books, there, here } = await clientThroughProxy(t)
  let said = false
  here.once('close', () => { said = true })
  // The socket is destroyed when all is written, and says so at the end of the same turn of the event loop: an immediate comes between.
  const read = new Promise(resolve => here.once('finish', () => setImmediate(() => {
    t.ok(here.destroyed && !said)
    resolve(books.findOne())
  })))
  there.end()
  t.equal(await outcome(read), null)
})

t.test('a large write that is broken off', async t => {
  const { books, there, here } = await clientThroughProxy(t)
  there.pause()
  const write = books.insertOne({ text: 'x'.repeat(15_000_000) })
  await until(async () => here.writableNeedDrain, 'a write that waits')
  here.destroy()
  t.match(await outcome(write), { acknowledged: true })
})
