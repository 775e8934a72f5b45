/** Applies what has come in from a partition to each projection, from where it stands there. */
import { readMessage, UnreadableMessage, type AnyProjection, type Envelope } from '@bifold/cqrs'
import { makeAuditor, type Auditor } from './audit.ts'
import { apply, checkpointId, checkpoints, type Checkpoint, type DeadLetter, type RawMessage, type Stretch } from './apply.ts'
import type { ConsumeOptions } from './consume.ts'
import { forget, unlessFilling } from './fill.ts'

/** Where each projection stands in a partition, and where reading has to begin for all of them. */
export interface Positions { readonly byProjection: Map<AnyProjection, Checkpoint | undefined>, readonly auditor: Auditor, start: number }

/** Reads where the projections stand in a partition. */
export async function loadPositions ({ db, admin, topic, projections }: ConsumeOptions, partition: number): Promise<Positions> {
  const range = (await admin.fetchTopicOffsets(topic)).find(found => found.partition === partition)
  const [low, high] = [Number(range?.low ?? 0), Number(range?.high ?? 0)]
  const byProjection = new Map<AnyProjection, Checkpoint | undefined>()
  for (const projection of projections) {
    const found = await checkpoints(db).findOne({ _id: checkpointId(projection, topic, partition) })
    if (found === null) await unlessFilling(db, projection)
    if (found !== null && (found.offset < low || found.offset > high)) {
      await forget(db, projection)
      throw new Error(found.offset < low
        ? `Kafka has deleted messages of partition ${partition} that ${projection.collection} has not seen, from ${found.offset} to ${low}: it is filled anew from PostgreSQL`
        : `Partition ${partition} ends at ${high}, before the checkpoint ${found.offset} of ${projection.collection}: the topic is another than before, and it is filled anew from PostgreSQL`)
    }
    byProjection.set(projection, found ?? undefined)
  }
  const seen = [...byProjection.values()].map(found => found?.sequence ?? '').sort()
  return { byProjection, auditor: makeAuditor(seen.at(-1) ?? ''), start: Math.min(...[...byProjection.values()].map(found => found?.offset ?? low)) }
}

/** Applies consecutive messages of a partition to each projection, and moves the positions. */
export async function project (options: ConsumeOptions, partition: number, messages: readonly RawMessage[], at: Positions) {
  const { client, db, topic, projections, log, applied, disordered } = options
  const { events, deadLetters } = read(messages, projections)
  const next = Number(messages.at(-1)!.offset) + 1
  for (const { message: { offset }, reason } of deadLetters) log.warn({ partition, offset, reason }, 'message kept as a dead letter')
  for (const { envelope } of events) {
    const found = at.auditor.next(envelope)
    if (found === undefined) continue
    log.error({ partition, ...found, sequence: envelope.sequence }, 'the versions of an aggregate do not follow each other')
    disordered(found)
  }
  await Promise.all(projections.map(async projection => {
    const from = at.byProjection.get(projection)
    const stretch: Stretch = {
      topic,
      partition,
      next,
      deadLetters: projection === projections[0] ? deadLetters : [], // one copy, whatever the number of projections
      // What this projection has applied before, and duplicates on the topic, are passed over.
      events: events.filter(({ message, envelope: { type, sequence } }) => type in projection.on && Number(message.offset) >= (from?.offset ?? 0) && sequence > (from?.sequence ?? ''))
    }
    if ((from?.offset ?? 0) >= next) return
    const { checkpoint, refused } = await apply(client, db, projection, withoutRepeats(stretch), from)
    at.byProjection.set(projection, checkpoint)
    applied(stretch.events.length - refused.length, refused.length + stretch.deadLetters.length)
    for (const { message: { offset }, reason } of refused) log.error({ partition, offset, reason, projection: projection.collection }, 'event kept as a dead letter')
  }))
  at.start = next
  const requestIds = [...new Set(events.map(({ envelope: { requestId } }) => requestId))].slice(0, 20) // enough to find a request by, in a line of bounded length
  log.info({ partition, from: messages[0]!.offset, to: messages.at(-1)!.offset, events: events.length, requestIds }, 'batch projected')
}

function read (messages: readonly RawMessage[], projections: readonly AnyProjection[]) {
  const events: { message: RawMessage, envelope: Envelope }[] = []
  const deadLetters: DeadLetter[] = []
  for (const message of messages) {
    if (message.isControlRecord === true) continue // a marker of a relay that began
    try {
      const envelope = readMessage(message as never)
      if (!projections.some(({ on }) => envelope.type in on)) throw new UnreadableMessage(`no projection knows ${envelope.type}`)
      events.push({ message, envelope })
    } catch (error) {
      deadLetters.push({ message, reason: (error as Error).message })
    }
  }
  return { events, deadLetters }
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
