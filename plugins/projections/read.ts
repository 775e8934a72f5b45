/** Reads the events in a partition's messages: each message once, whatever the number of projections. */
import { epochOf, isSequence, readMessage, UnreadableMessage } from '@bifold/cqrs'
import type { RawMessage } from '@bifold/kafka'
import type { Received, Unreadable } from './plan.ts'

/** What is in messages: events, and what nobody can read; a marker of a relay that began is neither. */
export interface Content { readonly events: readonly Received[], readonly unreadable: readonly Unreadable[] }

export type Reader = (messages: readonly RawMessage[]) => Content

/** A message with what was read of it, for as long as it waits for a projection. A WeakMap, which leaves it as it came, took a twentieth of the projector's rate. */
type Kept = RawMessage & { content?: Received | Unreadable }

/** A reader of one partition, whose events are known up to `sequence`. */
export function makeReader (sequence: string): Reader {
  let last = sequence

  const contentOf = (message: RawMessage): Received | Unreadable => {
    try {
      const envelope = readMessage(message as never)
      // One that sorts behind all of the relay's would have them passed over for ever.
      if (!isSequence(envelope.sequence, epochOf(last))) throw new UnreadableMessage('the header ce_sequence is not one of the relay\'s')
      if (envelope.sequence > last) last = envelope.sequence
      return { message, envelope }
    } catch (error) {
      return { message, reason: (error as Error).message }
    }
  }

  return messages => {
    const [events, unreadable]: [Received[], Unreadable[]] = [[], []]
    for (const message of messages as readonly Kept[]) {
      if (message.isControlRecord === true) continue
      const found = message.content ??= contentOf(message)
      if ('reason' in found) unreadable.push(found)
      else events.push(found)
    }
    return { events, unreadable }
  }
}
