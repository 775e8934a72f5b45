/** The tracks of a partition: each projection applies its events at a pace of its own, from where it stands in MongoDB, beside the auditor. */
import type { Admin } from 'kafkajs'
import type { Db } from 'mongodb'
import { generationOf, type AnyProjection } from '@bifold/cqrs'
import type { RawMessage, Track } from '@bifold/kafka'
import { makeAuditor } from './audit.ts'
import { apply, checkpointId, checkpoints, versionOf, unbuilt, type Checkpoint } from './apply.ts'
import type { ConsumeOptions } from './consume.ts'
import { loadParked, type Letter, type Parked } from './letters.ts'
import { concerns, type Stretch } from './plan.ts'
import { makeReader, type Reader } from './read.ts'
import type { Turn } from './turns.ts'

/** `turns` tells when each projection may write; at once, if it is not in there. */
export interface ProjectOptions extends ConsumeOptions { readonly turns: ReadonlyMap<AnyProjection, Turn> }

/** Where a projection stands in a partition, and what is parked there. */
export interface Position { readonly projection: AnyProjection, readonly checkpoint: Checkpoint | undefined, readonly parked: Parked }

/** A partition, and where it begins and ends now. */
interface Partition { readonly number: number, readonly low: number, readonly high: number }

/** Reads where the projections stand in a partition; those that another version has built are left out. */
export async function openPartition (options: ProjectOptions, number: number): Promise<readonly Track[]> {
  const ranges = await options.admin.fetchTopicOffsets(options.topic)
  const partition = partitionIn(ranges, number)
  const positions: Position[] = []
  for (const projection of options.projections) {
    const found = await loadPosition(options, ranges, partition, projection)
    if (found !== undefined) positions.push(found)
  }
  return tracksOf(options, partition, positions)
}

type Ranges = Awaited<ReturnType<Admin['fetchTopicOffsets']>>

function partitionIn (ranges: Ranges, number: number): Partition {
  const range = ranges.find(({ partition }) => partition === number)
  return { number, low: Number(range?.low ?? 0), high: Number(range?.high ?? 0) }
}

async function loadPosition ({ db, admin, topic, leftOut }: ConsumeOptions, ranges: Ranges, { number, low, high }: Partition, projection: AnyProjection): Promise<Position | undefined> {
  const found = await checkpoints(db).findOne({ _id: checkpointId(projection, topic, number) })
  // In one partition alone it is new.
  if (found === null && (await unbuilt(db, topic, ranges, [projection])).length > 0) throw new Error(`${projection.collection} is not there: it is to be built`)
  if (found !== null && found.version !== versionOf(projection)) {
    leftOut(projection, found.version)
    return undefined
  }
  if (found !== null && found.offset < low) throw await forget(db, projection, `Kafka has deleted messages of partition ${number} that ${projection.collection} has not seen, from ${found.offset} to ${low}`)
  if (found !== null && found.offset > high) {
    // Another projector may be at work on it until now: what it has applied since the end was read is behind that.
    const end = partitionIn(await admin.fetchTopicOffsets(topic), number).high
    if (found.offset > end) throw await forget(db, projection, `Partition ${number} ends at ${end}, before the checkpoint ${found.offset} of ${projection.collection}: the topic is another than before`)
  }
  return { projection, checkpoint: found ?? undefined, parked: await loadParked(db, projection, topic, number) }
}

/** Takes a read model's checkpoints away, so that it is built anew, and whoever else works on it is fenced off; gives the error to end with. */
async function forget (db: Db, { collection }: AnyProjection, reason: string): Promise<Error> {
  await checkpoints(db).deleteMany({ projection: collection })
  return new Error(`${reason}; it is built anew from PostgreSQL`)
}

export function tracksOf (options: ProjectOptions, { number, low, high }: Partition, positions: readonly Position[]): readonly Track[] {
  const starts = positions.map(({ checkpoint }) => checkpoint?.offset ?? low)
  const known = positions.map(({ checkpoint }) => checkpoint?.sequence ?? '').sort().at(-1) ?? '' // that any of them has seen
  const read = makeReader(known)
  return [
    track(positions.length === 0 ? high : Math.max(...starts), audit(options, number, read, known)),
    ...positions.map((position, index) => track(starts[index]!, project(options, number, read, position, { keepsUnreadable: index === 0 }), options.turns.get(position.projection)))
  ]
}

/** A track that begins at `start`; `work` gets what is not before it, and the place behind. */
function track (start: number, work: (messages: readonly RawMessage[], end: number) => void | Promise<void>, inTurn?: Turn): Track {
  let next = start
  return {
    inTurn,
    get next () { return next },
    async work (messages) {
      const end = Number(messages.at(-1)!.offset) + 1
      if (end <= next) return
      await work(messages.slice(messages.findIndex(({ offset }) => Number(offset) >= next)), end)
      next = end
    }
  }
}

function audit ({ log, disordered }: ConsumeOptions, partition: number, read: Reader, known: string) {
  const auditor = makeAuditor(known)
  return (messages: readonly RawMessage[]) => {
    const { events } = read(messages)
    for (const { envelope } of events) {
      const found = auditor.next(envelope)
      if (found === undefined) continue
      log.error({ partition, ...found, sequence: envelope.sequence }, 'the versions of an aggregate do not follow each other')
      disordered(found)
    }
    const requestIds = [...new Set(events.map(({ envelope: { requestId } }) => requestId))].slice(0, 20) // enough to find a request by, in a line of bounded length
    log.info({ partition, from: messages[0]!.offset, to: messages.at(-1)!.offset, events: events.length, requestIds }, 'batch read')
  }
}

/** Applies messages to a projection, and moves its checkpoint. Of what nobody can read one projection keeps the copy, whatever their number. */
function project (options: ConsumeOptions, partition: number, read: Reader, { projection, checkpoint, parked }: Position, { keepsUnreadable }: { keepsUnreadable: boolean }) {
  const { db, topic, declared, log, applied } = options
  let from = checkpoint
  return async (messages: readonly RawMessage[], next: number) => {
    const { events, unreadable } = read(messages)
    let last = from?.sequence ?? ''
    const stretch: Stretch = {
      topic,
      partition,
      next,
      unreadable: keepsUnreadable ? unreadable : [],
      // Sequences rise within a partition; what does not was applied before, or is there twice.
      events: events.filter(({ envelope: { type, sequence } }) => {
        const isNew = concerns(projection, declared, type) && sequence > last
        if (isNew) last = sequence
        return isNew
      })
    }
    // It may be as long as the old one was, so that the offsets tell nothing.
    if (from !== undefined && from.sequence !== '' && generationOf(last) > generationOf(from.sequence)) throw await forget(db, projection, `Partition ${partition} is of another topic than ${projection.collection} has read`)
    const { checkpoint, letters } = await apply({ db, projection, parked }, stretch, from)
    from = checkpoint
    applied(projection, stretch.events.length + stretch.unreadable.length - letters.length, letters.length)
    tell(options, partition, letters)
    log.debug({ partition, projection: projection.collection, next, events: stretch.events.length }, 'batch projected')
  }
}

function tell ({ log }: ConsumeOptions, partition: number, letters: readonly Letter[]) {
  for (const { _id, projection, offset, aggregateId, version, reason, waits } of letters) {
    const fields = { letter: String(_id), projection, partition, offset, aggregateId, version, reason }
    if (aggregateId === null) log.warn(fields, 'message kept as a dead letter')
    else if (waits) log.debug(fields, 'event kept behind a dead letter')
    else log.error(fields, 'event kept as a dead letter: its aggregate is parked')
  }
}
