/** The lease: who has lost it can change nothing by it, and knows soon. */
import net from 'node:net'
import { setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { sql } from 'kysely'
import { connect, migrate, type Db } from '@bifold/postgres'
import { modules } from '@bifold/modules'
import { stores, until } from '@bifold/test'
import { readCheckpoint, writeCheckpoint } from './checkpoint.ts'
import { takeLease } from './lease.ts'
import { pollEvents } from './poll.ts'
import { makeSlot, relaySlots } from './slot.ts'

const checkpoint = { topic: 'topic', epoch: 1, mode: 'wal', position: 0, offsets: [], place: '', placeOffsets: [], slot: null, continuous: true } as const

async function database (t: Test) {
  const { POSTGRES_URL: url } = await stores(t)
  const db = connect(url, 2)
  t.teardown(async () => await db.destroy())
  await migrate(db, modules)
  return { db, url }
}

/** As PostgreSQL does when the relay is frozen for longer than the lease lasts. */
const endLeases = async (db: Db) => await sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'bifold-relay-lease' and datname = current_database()`.execute(db)

const take = async (url: string) => (await takeLease({ url, signal: new AbortController().signal, waiting () {} }))!

t.test('what is written by the session of a lease that is lost is not written', async t => {
  const { db, url } = await database(t)
  const first = await take(url)
  await writeCheckpoint(first.db, { ...checkpoint, offsets: [], placeOffsets: [] })
  await endLeases(db)
  const second = await take(url)
  t.teardown(async () => await second.release())
  await t.rejects(writeCheckpoint(first.db, { ...checkpoint, epoch: 2, offsets: [], placeOffsets: [] }))
  t.equal((await readCheckpoint(second.db, 'topic'))!.epoch, 1)
  await t.rejects(first.lost)
  await first.release()
})

t.test('a slot that is still being made when the lease is lost does not stay', async t => {
  const { db, url } = await database(t)
  const slots = async () => (await sql`select slot_name from ${relaySlots}`.execute(db)).rows.length
  const lease = await take(url)
  const late = await db.startTransaction().execute()
  await sql`select pg_current_xact_id()`.execute(late)
  const making = t.rejects(makeSlot(lease.db, url))
  await until(async () => await slots() === 1, 'PostgreSQL to wait for the transaction')
  await endLeases(db)
  await late.rollback().execute()
  await making
  t.equal(await slots(), 0)
  await lease.release()
})

/** The database behind a proxy, which passes nothing on any more from when it is told to be silent. */
async function silenceable (t: Test) {
  const { url } = await database(t)
  const { port, host } = Object.assign(new URL(url))
  const at = { silent: false }
  const open = new Set<net.Socket>()
  const proxy = net.createServer(from => {
    const to = net.connect({ host: host.split(':')[0], port: Number(port) })
    for (const socket of [from, to]) open.add(socket.on('error', () => {}))
    from.on('data', bytes => { if (!at.silent) to.write(bytes) })
    to.on('data', bytes => { if (!at.silent) from.write(bytes) })
  }).listen(0, '127.0.0.1')
  t.teardown(() => {
    for (const socket of open) socket.destroy()
    proxy.close()
  })
  await new Promise(resolve => proxy.once('listening', resolve))
  return { at, url: Object.assign(new URL(url), { hostname: '127.0.0.1', port: String((proxy.address() as net.AddressInfo).port) }).toString() }
}

t.test('a PostgreSQL that has gone without a word is noticed within the time of the lease', async t => {
  const { at, url } = await silenceable(t)
  const lease = await take(url)
  at.silent = true
  const begun = Date.now()
  await t.rejects(lease.lost, { message: /nothing was heard/ })
  t.ok(Date.now() - begun < 10_000, `noticed after ${Date.now() - begun} ms`)
  t.notOk(lease.held())
  await lease.release()
})

t.test('a stream that polls it is closed all the same, so that the lease can be released', async t => {
  const { at, url } = await silenceable(t)
  const reached = Promise.withResolvers<void>()
  const stream = await pollEvents({ url, after: 0 }, { committed () {}, reached: () => reached.resolve() })
  await reached.promise
  at.silent = true
  await setTimeout(100) // so that it has asked, and waits
  t.ok(await Promise.race([stream.close().then(() => true), setTimeout(5000, false)]))
})
