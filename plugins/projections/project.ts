/** Applies what has come in from a partition to each projection, from where it stands there. */
import type { Db } from 'mongodb'
import { epochOf, generationOf, isSequence, readMessage, UnreadableMessage, type AnyProjection } from '@bifold/cqrs'
import type { RawMessage } from '@bifold/kafka'
import { makeAuditor, type Auditor } from './audit.ts'
import { apply, checkpointId, checkpoints, versionOf, unbuilt, type Checkpoint } from './apply.ts'
import type { ConsumeOptions } from './consume.ts'
import { loadParked, type Letter, type Parked } from './letters.ts'
import { concerns, type Received, type Stretch } from './plan.ts'

/** Where each projection stands in a partition, and where reading has to begin for all of them. */
export interface Positions { readonly byProjection: Map<AnyProjection, Position>, readonly auditor: Auditor, start: number }

/** Where a projection stands in a partition, and what is parked there. */
interface Position { readonly checkpoint: Checkpoint | undefined, readonly parked: Parked }

/** Reads where the projections stand in a partition. */
export async function loadPositions ({ db, admin, topic, projections, leftOut }: ConsumeOptions, partition: number): Promise<Positions> {
  const ranges = await admin.fetchTopicOffsets(topic)
  const range = ranges.find(found => found.partition === partition)
  const [low, high] = [Number(range?.low ?? 0), Number(range?.high ?? 0)]
  const byProjection: Positions['byProjection'] = new Map()
  for (const projection of projections) {
    const found = await checkpoints(db).findOne({ _id: checkpointId(projection, topic, partition) })
    // In one partition alone it is new.
    if (found === null && (await unbuilt(db, topic, ranges, [projection])).length > 0) throw new Error(`${projection.collection} is not there: it is to be built`)
    if (found !== null && found.version !== versionOf(projection)) {
      leftOut(projection, found.version)
      continue
    }
    if (found !== null && (found.offset < low || found.offset > high)) {
      throw await forget(db, projection, found.offset < low
        ? `Kafka has deleted messages of partition ${partition} that ${projection.collection} has not seen, from ${found.offset} to ${low}`
        : `Partition ${partition} ends at ${high}, before the checkpoint ${found.offset} of ${projection.collection}: the topic is another than before`)
    }
    byProjection.set(projection, { checkpoint: found ?? undefined, parked: await loadParked(db, projection, topic, partition) })
  }
  const seen = [...byProjection.values()].map(({ checkpoint }) => checkpoint?.sequence ?? '').sort()
  return { byProjection, auditor: makeAuditor(seen.at(-1) ?? ''), start: byProjection.size === 0 ? high : Math.min(...[...byProjection.values()].map(({ checkpoint }) => checkpoint?.offset ?? low)) }
}

/** Takes a read model's checkpoints away, so that it is built anew, and whoever else works on it is fenced off; gives the error to end with. */
async function forget (db: Db, { collection }: AnyProjection, reason: string): Promise<Error> {
  await checkpoints(db).deleteMany({ projection: collection })
  return new Error(`${reason}; it is built anew from PostgreSQL`)
}

/** Applies consecutive messages of a partition to each projection, and moves the positions. */
export async function project (options: ConsumeOptions, partition: number, messages: readonly RawMessage[], at: Positions) {
  const { db, topic, declared, log, applied, disordered } = options
  const projections = [...at.byProjection.keys()]
  const last = [...at.byProjection.values()].map(({ checkpoint }) => checkpoint?.sequence ?? '').sort().at(-1) ?? ''
  const { events, unreadable } = read(messages, epochOf(last))
  const next = Number(messages.at(-1)!.offset) + 1
  for (const { envelope } of events) {
    const found = at.auditor.next(envelope)
    if (found === undefined) continue
    log.error({ partition, ...found, sequence: envelope.sequence }, 'the versions of an aggregate do not follow each other')
    disordered(found)
  }
  await Promise.all(projections.map(async projection => {
    const { checkpoint: from, parked } = at.byProjection.get(projection)!
    const isNew = ({ offset }: RawMessage) => Number(offset) >= (from?.offset ?? 0)
    const stretch: Stretch = {
      topic,
      partition,
      next,
      unreadable: projection === projections[0] ? unreadable.filter(({ message }) => isNew(message)) : [], // one copy, whatever the number of projections
      // What this projection has applied before, and duplicates on the topic, are passed over.
      events: events.filter(({ message, envelope: { type, sequence } }) => concerns(projection, declared, type) && isNew(message) && sequence > (from?.sequence ?? ''))
    }
    if ((from?.offset ?? 0) >= next) return
    // It may be as long as the old one was, so that the offsets tell nothing.
    const another = from !== undefined && from.sequence !== '' && stretch.events.some(({ envelope: { sequence } }) => generationOf(sequence) > generationOf(from.sequence))
    if (another) throw await forget(db, projection, `Partition ${partition} is of another topic than ${projection.collection} has read`)
    const { checkpoint, letters } = await apply({ db, projection, parked }, withoutRepeats(stretch), from)
    at.byProjection.set(projection, { checkpoint, parked })
    applied(projection, stretch.events.length + stretch.unreadable.length - letters.length, letters.length)
    tell(options, partition, letters)
  }))
  at.start = next
  const requestIds = [...new Set(events.map(({ envelope: { requestId } }) => requestId))].slice(0, 20) // enough to find a request by, in a line of bounded length
  log.info({ partition, from: messages[0]!.offset, to: messages.at(-1)!.offset, events: events.length, requestIds }, 'batch projected')
}

function tell ({ log }: ConsumeOptions, partition: number, letters: readonly Letter[]) {
  for (const { _id, projection, offset, aggregateId, version, reason, waits } of letters) {
    const fields = { letter: String(_id), projection, partition, offset, aggregateId, version, reason }
    if (aggregateId === null) log.warn(fields, 'message kept as a dead letter')
    else if (waits) log.debug(fields, 'event kept behind a dead letter')
    else log.error(fields, 'event kept as a dead letter: its aggregate is parked')
  }
}

function read (messages: readonly RawMessage[], epochKnown: number) {
  const events: Received[] = []
  const unreadable: { message: RawMessage, reason: string }[] = []
  for (const message of messages) {
    if (message.isControlRecord === true) continue // a marker of a relay that began
    try {
      const envelope = readMessage(message as never)
      // One that sorts behind all of the relay's would have them passed over for ever.
      if (!isSequence(envelope.sequence, epochKnown)) throw new UnreadableMessage('the header ce_sequence is not one of the relay\'s')
      events.push({ message, envelope })
    } catch (error) {
      unreadable.push({ message, reason: (error as Error).message })
    }
  }
  return { events, unreadable }
}

// Sequences rise within a partition; one that does not was sent before.
function withoutRepeats (stretch: Stretch): Stretch {
  let last = ''
  return {
    ...stretch,
    events: stretch.events.filter(({ envelope: { sequence } }) => {
      const fresh = sequence > last
      if (fresh) last = sequence
      return fresh
    })
  }
}
