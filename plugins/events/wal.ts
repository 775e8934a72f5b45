/**
 * Streams committed transactions out of a replication slot, and confirms exactly what it is told to.
 *
 * Our own on pg's connection, because the reader on npm acknowledges what was received instead of what was confirmed
 * (docs/decisions/0002-wal-reader.md).
 */
import pg from 'pg'
import { lsnAt, makeDecoder } from './pgoutput.ts'
import type { EventStream, Place, StreamHandlers } from './stream.ts'

export interface WalOptions { url: string, slot: string, publication: string }

interface Connection {
  readonly stream: { pause (): void, resume (): void, write (bytes: Buffer | string, written: () => void): void }
  on (event: 'copyData', listener: (message: { chunk: Buffer }) => void): void
  once (event: 'replicationStart', listener: () => void): void
  sendCopyFromChunk (chunk: Buffer): void
}

const statusMs = 5000 // wal_sender_timeout is 60 s: a relay that is paused must still be heard of
const message = { data: 0x77, keepalive: 0x6b }

/** Opens the slot's stream, transactions in the order of their commits; rejects if the slot is in use. */
export async function streamWal ({ url, slot, publication }: WalOptions, handlers: StreamHandlers): Promise<EventStream> {
  // `replication` is pg's own option, missing in its types.
  const client = new pg.Client({ connectionString: url, replication: 'database', application_name: 'bifold-relay' } as pg.ClientConfig)
  const broken = Promise.withResolvers<never>()
  broken.promise.catch(() => {})
  client.on('error', broken.reject)
  await client.connect()
  try {
    return await start(client, { slot, publication }, handlers, broken.promise)
  } catch (error) {
    await client.end().catch(() => {})
    throw error
  }
}

async function start (client: pg.Client, { slot, publication }: Omit<WalOptions, 'url'>, handlers: StreamHandlers, broken: Promise<never>): Promise<EventStream> {
  const connection = (client as unknown as { connection: Connection }).connection
  const decode = makeDecoder()
  const started = Promise.withResolvers<void>()
  const end = Promise.withResolvers<void>()
  let confirmed: Place = '0'.repeat(16) // nothing yet; the slot itself knows where it stands
  let closing = false

  const status = () => connection.sendCopyFromChunk(statusUpdate(confirmed))
  const timer = setInterval(status, statusMs)

  const wal: EventStream = {
    confirm (lsn) {
      confirmed = lsn
      status()
    },
    pause: () => connection.stream.pause(),
    resume: () => connection.stream.resume(),
    ended: end.promise,
    async close () {
      closing = true
      connection.stream.resume()
      // What was confirmed last leaves before the connection does.
      await Promise.race([new Promise<void>(resolve => connection.stream.write('', resolve)), end.promise.catch(() => {})])
      await client.end()
    }
  }
  connection.once('replicationStart', started.resolve)
  connection.on('copyData', ({ chunk }) => {
    if (closing) return
    if (chunk[0] === message.data) {
      const transaction = decode(chunk.subarray(25)) // after two LSNs and a time
      if (transaction !== undefined) handlers.committed(transaction, wal)
    } else if (chunk[0] === message.keepalive) {
      handlers.reached(lsnAt(chunk, 1), wal)
      if (chunk[17] === 1) status() // a reply is asked for
    }
  })
  // Resolves only when the stream ends.
  const streaming = client.query(`START_REPLICATION SLOT "${slot}" LOGICAL 0/0 (proto_version '1', publication_names '${publication}')`).then(() => {
    if (!closing) throw new Error('PostgreSQL ended the WAL stream')
  })
  Promise.race([streaming, broken]).catch(error => {
    if (!closing) throw error
  }).finally(() => clearInterval(timer)).then(end.resolve, end.reject)
  end.promise.catch(() => {}) // whoever waits for it hears of it
  await Promise.race([started.promise, end.promise])
  return wal
}

// Standby status update: written, flushed and applied up to here, exactly (a byte more would skip a transaction that begins there).
function statusUpdate (lsn: Place): Buffer {
  const update = Buffer.alloc(34)
  update.write('r')
  for (const at of [1, 9, 17]) update.write(lsn, at, 'hex')
  // Microseconds since 2000-01-01.
  update.writeBigInt64BE(BigInt(Date.now() - 946_684_800_000) * 1000n, 25)
  return update
}
