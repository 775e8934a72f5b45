/**
 * Streams the event log to Kafka: in commit order, confirmed to PostgreSQL only when Kafka has it.
 *
 * Every failure has one treatment: begin again at the confirmed place of the log, and skip what the topic has.
 */
import { setTimeout } from 'node:timers/promises'
import type { Admin, Kafka, Producer } from 'kafkajs'
import type { FastifyBaseLogger } from 'fastify'
import { nextEpoch } from '@bifold/cqrs'
import { fencedId, sendAll } from '@bifold/kafka'
import { publication, settledPosition, poolOf, type Db, type RelayCheckpoint, type RelayMode } from '@bifold/postgres'
import { catchUp } from './catch-up.ts'
import { breakOthers, highOffsets, keepCheckpoint, placeNow, readCheckpoint, writeCheckpoint } from './checkpoint.ts'
import { takeLease, type Lease } from './lease.ts'
import { pollEvents } from './poll.ts'
import { makeQueue, type Known, type Queue } from './queue.ts'
import { dropSlots, freeSlot, makeSlot, slotFault } from './slot.ts'
import { placeAfter, type EventStream, type Place, type StreamHandlers } from './stream.ts'
import { readSeen, type Sent } from './tail.ts'
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
const fencedMs = 24 * 3600 * 1000 // Kafka forgets a producer's id, and with it the fence, when it was not used for 7 days: each beginning uses it

/** Relays until the signal; rejects when anything fails, and is then to be called again. */
export async function relay (options: RelayOptions, ready: () => void): Promise<void> {
  const { url, mode, topic, signal, log, standby, waiting } = options
  const lease = await takeLease({ url, signal, waiting: standby })
  if (lease === undefined) return
  const kafka = options.kafka(lease.held)
  const producer = kafka.producer({ transactionalId: fencedId(topic), idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: false, retry: { retries: connectRetries } })
  try {
    await producer.connect()
    const beginning = await Promise.race([continued(options, { lease, kafka, producer }), lease.lost])
    // Each time that one begins: it may have been killed before, or not have had the privilege.
    if (mode === 'polling') await dropSlots(lease.db).catch((error: unknown) => log.warn(error, 'PostgreSQL keeps WAL for a replication slot of the mode wal, which could not be dropped'))
    await stream(options, { lease, producer, ...beginning }, ready)
  } finally {
    waiting(0)
    await producer.disconnect().catch(() => {})
    await lease.release()
  }
}

interface Begun { readonly lease: Lease, readonly kafka: Kafka, readonly producer: Producer }

/** Where the stream goes on, and what the topic has of it. */
interface Beginning { readonly checkpoint: RelayCheckpoint, readonly partitions: number, readonly known: Known }

/**
 * Makes sure that the stream goes on where the topic ends; sends what is missing, if it does not. Whatever is changed in PostgreSQL
 * is changed by the lease's session: a relay that lost it without knowing must not take the next one's slot away.
 */
async function continued (options: RelayOptions, begun: Begun): Promise<Beginning> {
  const { mode, topic, admin, log } = options
  const { lease: { db }, kafka } = begun
  const before = await readCheckpoint(db, topic)
  const offsets = await highOffsets(admin, topic)
  const shrunk = before?.placeOffsets.some((offset, partition) => (offsets[partition] ?? 0) < offset) ?? false
  const seen = await readSeen(kafka, admin, topic, shrunk ? [] : before?.placeOffsets ?? [], before?.epoch ?? 0)
  const from = await placeNow(db, mode)
  const lastKnown = await positions(db, seen.tails)
  options.sent(0, Math.max(0, before?.position ?? 0, ...lastKnown.map(position => position ?? 0)))
  const reason = before === undefined
    ? 'The relay sends to this topic for the first time'
    : !before.continuous
        ? 'The relay was interrupted while it caught up, or has sent to another topic since'
        : before.mode !== mode
          ? `The relay reads in the mode ${mode}, and did in the mode ${before.mode}`
          : shrunk
            ? `The topic ${topic} has lost messages, or is another than before`
            : lastKnown.some((position, partition) => seen.tails[partition] !== undefined && position === undefined) || seen.epoch > before.epoch
              ? 'PostgreSQL does not know the last events on the topic: it is older than the topic'
              : seen.identities === undefined
                ? 'The topic has more events behind the checkpoint than can be borne in mind'
                : mode === 'wal' ? await slotFault(db, before.slot) : undefined
  if (before !== undefined && reason === undefined) return { checkpoint: before, partitions: offsets.length, known: { before: before.place, identities: seen.identities!, from } }

  // Kafka has deleted what the topic would be compared with: who has read that must not take it for new when it is sent again.
  const expired = (await admin.fetchTopicOffsets(topic)).some(({ partition, low }) => Number(low) > (before?.offsets[partition] ?? 0))
  const broken: RelayCheckpoint = {
    topic,
    mode,
    epoch: nextEpoch(Math.max(before?.epoch ?? 0, seen.epoch), { topic: shrunk || expired ? 'another' : 'same' }),
    position: shrunk ? 0 : before?.position ?? 0,
    offsets: shrunk ? [] : before?.offsets ?? [],
    place: '',
    placeOffsets: shrunk ? [] : before?.offsets ?? [],
    slot: null,
    continuous: false
  }
  await writeCheckpoint(db, broken)
  log.warn({ ...broken, reason }, 'catching up from the table of events')
  return await caughtUp(options, begun, broken, reason!)
}

/** Sends what the topic lacks of what is committed by now; the stream then goes on with all else. */
async function caughtUp (options: RelayOptions, { lease: { db }, kafka, producer }: Begun, broken: RelayCheckpoint, reason: string): Promise<Beginning> {
  const { url, mode, topic, admin, signal, sent } = options
  const placeOffsets = await highOffsets(admin, topic)
  const common = { url, kafka, admin, producer, topic, epoch: broken.epoch, position: broken.position, offsets: broken.offsets, signal, sent }
  let { position, place, slot } = broken
  if (mode === 'wal') {
    await breakOthers(db, topic)
    const made = await makeSlot(db, url)
    place = made.place
    slot = made.name
    options.caughtUp({ reason, ...await catchUp({ ...common, until: { snapshot: made.snapshot } }).finally(made.close) })
  } else {
    const client = await poolOf(options.db).connect()
    position = await settledPosition(client, signal).finally(() => client.release())
    place = placeAfter(position)
    options.caughtUp({ reason, ...await catchUp({ ...common, until: { position } }) })
  }
  const checkpoint = { ...broken, position, place, placeOffsets, slot, continuous: true }
  await writeCheckpoint(db, checkpoint)
  return { checkpoint, partitions: placeOffsets.length, known: { before: place, identities: new Set(), from: place } }
}

/** Where each partition's last event stands in the log; undefined if the log does not know it. */
async function positions (db: Db, tails: readonly (Sent | undefined)[]): Promise<(number | undefined)[]> {
  return await Promise.all(tails.map(async tail => {
    if (tail === undefined) return undefined
    const found = await db.selectFrom('events').select(['position', 'time']).where('aggregateId', '=', tail.id).where('version', '=', tail.version).executeTakeFirst()
    return found?.time.toISOString() === tail.time ? found.position : undefined
  }))
}

interface Streaming extends Beginning { readonly lease: Lease, readonly producer: Producer }

async function stream (options: RelayOptions, { lease, producer, checkpoint, partitions, known }: Streaming, ready: () => void) {
  const { db, admin, topic, mode, signal, log, waiting } = options
  const queue = makeQueue(partitions, checkpoint.epoch, known)
  let confirmed: Place = ''
  const confirm = (stream: EventStream, place: Place) => {
    confirmed = place
    stream.confirm(place)
  }
  const opening = open(options, lease, checkpoint, {
    committed (committed, stream) {
      queue.add(committed)
      waiting(queue.messages)
      if (queue.full) stream.pause()
    },
    // Everything handed over is sent: what is left up to here is not ours.
    reached (place, stream) { if (queue.idle) confirm(stream, place) }
  })
  // From a PostgreSQL that has gone without a word no answer comes, or one that is too late.
  const events = await Promise.race([opening, lease.lost]).catch(error => {
    opening.then(async events => await events.close()).catch(() => {})
    throw error
  })
  const ending = new AbortController()
  try {
    signal.addEventListener('abort', queue.wake, { once: true, signal: ending.signal })
    void keepCheckpoint({ db, admin, topic, mode, epoch: checkpoint.epoch, signal: AbortSignal.any([signal, ending.signal]), log, confirmed: () => confirmed })
    const failures = [events.ended, lease.lost]
    for (const failure of failures) failure.catch(queue.wake)
    ready()
    await Promise.race([send(options, producer, events, queue, place => confirm(events, place)), ...failures, setTimeout(fencedMs, undefined, { signal: ending.signal })])
  } finally {
    ending.abort()
    await events.close().catch(() => {})
  }
}

async function open ({ url, mode }: RelayOptions, { db }: Lease, { position, slot }: RelayCheckpoint, handlers: StreamHandlers): Promise<EventStream> {
  if (mode === 'polling') return await pollEvents({ url, after: position }, handlers)
  await freeSlot(db, slot!)
  return await streamWal({ url, slot: slot!, publication }, handlers)
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
    if (queue.roomy) events.resume()
  }
}
