/**
 * Streams the event log to Kafka: in commit order, confirmed to PostgreSQL only when Kafka has it.
 *
 * Every failure has one treatment: begin again at the confirmed place of the log, and skip what the topic has.
 */
import type { Admin, Kafka, Producer } from 'kafkajs'
import type { FastifyBaseLogger } from 'fastify'
import { fencedId } from '@bifold/kafka'
import { publication, settledPosition, poolOf, type Db, type RelayCheckpoint, type RelayMode } from '@bifold/postgres'
import { catchUp } from './catch-up.ts'
import { highOffsets, keepCheckpoint, readCheckpoint, writeCheckpoint } from './checkpoint.ts'
import { takeLease, type Lease } from './lease.ts'
import { pollEvents } from './poll.ts'
import { makeQueue, type Queue } from './queue.ts'
import { sendAll } from './send.ts'
import { freeSlot, makeSlot, slotFault, slotName } from './slot.ts'
import type { EventStream, Place, StreamHandlers } from './stream.ts'
import { readTails, type Tail } from './tail.ts'
import { streamWal } from './wal.ts'

export interface RelayOptions {
  readonly url: string
  readonly db: Db
  readonly mode: RelayMode
  readonly topic: string
  /** Makes a client that writes nothing more once the guard says no. */
  readonly kafka: (guard: () => boolean) => Kafka
  readonly admin: Admin
  readonly signal: AbortSignal
  readonly log: FastifyBaseLogger
  /** Told why it waits. */
  readonly standby: (reason: string) => void
  /** Told how many events are read from the log and not yet in Kafka. */
  readonly waiting: (events: number) => void
  /** Told what Kafka has: how many events were sent now, and the highest of their positions. */
  readonly sent: (events: number, position: number) => void
  /** Told that it could not simply go on. */
  readonly caughtUp: (found: Broken) => void
}

/** Why the stream could not simply go on, and what that came to. */
export interface Broken {
  readonly reason: string
  readonly sent: number
  /** Events that Kafka has and PostgreSQL does not know. */
  readonly unknown: number
}

const connectRetries = 12 // some 10 s: by then the coordinator of a broker that was killed is another. A send is not tried again (plugins/kafka/fence.ts)
const bufferMax = 4000 // messages read ahead of Kafka, some 10 MB with their headers; beyond, the log waits in PostgreSQL

/** Relays until the signal; rejects when anything fails, and is then to be called again. */
export async function relay (options: RelayOptions, ready: () => void): Promise<void> {
  const { url, topic, admin, signal, standby, waiting } = options
  const lease = await takeLease({ url, signal, waiting: standby })
  if (lease === undefined) return
  const kafka = options.kafka(lease.held)
  const producer = kafka.producer({ transactionalId: fencedId(topic), idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false, retry: { retries: connectRetries } })
  try {
    await producer.connect()
    const tails = await readTails(kafka, admin, topic)
    const checkpoint = await continued(options, { kafka, producer, tails })
    await stream(options, { lease, producer, checkpoint, tails: checkpoint.tails }, ready)
  } finally {
    waiting(0)
    await producer.disconnect().catch(() => {})
    await lease.release()
  }
}

interface Beginning { readonly kafka: Kafka, readonly producer: Producer, readonly tails: readonly (Tail | undefined)[] }

/** Makes sure that the stream goes on where the topic ends; sends what is missing, if it does not. */
async function continued (options: RelayOptions, beginning: Beginning) {
  const { db, mode, topic, admin, log, sent, caughtUp } = options
  const { tails } = beginning
  const before = await readCheckpoint(db, topic)
  const offsets = await highOffsets(admin, topic)
  const known = await positions(db, tails)
  sent(0, Math.max(0, ...known.map(position => position ?? 0)))
  const shrunk = before?.offsets.some((offset, partition) => (offsets[partition] ?? 0) < offset) ?? false
  const reason = before === undefined
    ? 'The relay sends to this topic for the first time'
    : !before.continuous
        ? 'The relay was interrupted while it caught up'
        : before.mode !== mode
          ? `The relay reads in the mode ${mode}, and did in the mode ${before.mode}`
          : shrunk
            ? `The topic ${topic} has lost messages, or is another than before`
            : known.some((position, partition) => tails[partition] !== undefined && position === undefined) || tails.some(tail => epochOf(tail) > before.epoch)
              ? 'PostgreSQL does not know the last events on the topic: it is older than the topic'
              : mode === 'wal' ? await slotFault(db, await slotName(db)) : undefined
  if (before !== undefined && reason === undefined) return { ...before, tails }

  const checkpoint: RelayCheckpoint = {
    topic,
    mode,
    epoch: Math.max(before?.epoch ?? 0, ...tails.map(epochOf)) + 1,
    position: shrunk ? 0 : before?.position ?? 0,
    offsets: shrunk ? [] : before?.offsets ?? [],
    continuous: false
  }
  await writeCheckpoint(db, checkpoint)
  log.warn({ ...checkpoint, reason }, 'catching up from the table of events')
  const position = await sendMissing(options, beginning, checkpoint)
  await writeCheckpoint(db, { ...checkpoint, position, continuous: true })
  // What was sent now is of a lower place in this epoch than all that the stream will have.
  return { ...checkpoint, position, tails: tails.map(() => undefined) }

  async function sendMissing ({ url, signal }: RelayOptions, { kafka, producer }: Beginning, { epoch, position, offsets }: RelayCheckpoint): Promise<number> {
    const common = { url, kafka, admin, producer, topic, epoch, position, offsets, signal, sent }
    if (mode === 'wal') {
      const slot = await slotName(db)
      await freeSlot(db, slot)
      const { snapshot, close } = await makeSlot(db, url, slot)
      const found = await catchUp({ ...common, until: { snapshot } }).finally(close)
      caughtUp({ reason: reason!, ...found })
      return position
    }
    const client = await poolOf(db).connect()
    const settled = await settledPosition(client, signal).finally(() => client.release())
    caughtUp({ reason: reason!, ...await catchUp({ ...common, until: { position: settled } }) })
    return settled
  }
}

const epochOf = (tail: Tail | undefined): number => tail === undefined ? 0 : parseInt(tail.sequence.slice(0, 8), 16)

/** Where each partition's last event stands in the log; undefined if the log does not know it. */
async function positions (db: Db, tails: readonly (Tail | undefined)[]): Promise<(number | undefined)[]> {
  return await Promise.all(tails.map(async tail => {
    if (tail === undefined) return undefined
    const found = await db.selectFrom('events').select(['position', 'time']).where('aggregateId', '=', tail.id).where('version', '=', tail.version).executeTakeFirst()
    return found?.time.toISOString() === tail.time ? found.position : undefined
  }))
}

interface Streaming { readonly lease: Lease, readonly producer: Producer, readonly checkpoint: RelayCheckpoint, readonly tails: readonly (Tail | undefined)[] }

async function stream (options: RelayOptions, { lease, producer, checkpoint, tails }: Streaming, ready: () => void) {
  const { db, admin, topic, mode, signal, log, waiting } = options
  const queue = makeQueue(tails, checkpoint.epoch)
  let confirmed: Place = ''
  const confirm = (stream: EventStream, place: Place) => {
    confirmed = place
    stream.confirm(place)
  }
  const events = await open(options, checkpoint, {
    committed (committed, stream) {
      queue.add(committed)
      waiting(queue.messages)
      if (queue.messages > bufferMax) stream.pause()
    },
    // Everything handed over is sent: what is left up to here is not ours.
    reached (place, stream) { if (queue.idle) confirm(stream, place) }
  })
  const ending = new AbortController()
  try {
    signal.addEventListener('abort', queue.wake, { once: true })
    void keepCheckpoint({ db, admin, topic, mode, epoch: checkpoint.epoch, signal: AbortSignal.any([signal, ending.signal]), log, confirmed: () => confirmed })
    const failures = [events.ended, lease.lost]
    for (const failure of failures) failure.catch(queue.wake)
    ready()
    await Promise.race([send(options, producer, events, queue, place => confirm(events, place)), ...failures])
  } finally {
    ending.abort()
    await events.close().catch(() => {})
  }
}

async function open ({ url, db, mode }: RelayOptions, { position }: RelayCheckpoint, handlers: StreamHandlers): Promise<EventStream> {
  if (mode === 'polling') return await pollEvents({ url, after: position }, handlers)
  const slot = await slotName(db)
  await freeSlot(db, slot)
  return await streamWal({ url, slot, publication }, handlers)
}

async function send ({ topic, signal, waiting, sent }: RelayOptions, producer: Producer, events: EventStream, queue: Queue, confirm: (place: Place) => void) {
  while (!signal.aborted) {
    const batch = await queue.take()
    if (batch.length === 0) continue
    const outgoing = batch.flatMap(({ messages }) => messages)
    if (outgoing.length > 0) await sendAll(producer, topic, outgoing.map(({ message }) => message))
    confirm(batch.at(-1)!.end)
    queue.done()
    waiting(queue.messages)
    if (outgoing.length > 0) sent(outgoing.length, Math.max(...outgoing.map(({ position }) => position)))
    if (queue.messages < bufferMax / 2) events.resume()
  }
}
