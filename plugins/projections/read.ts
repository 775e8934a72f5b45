/** Reads the events in a partition's messages: each message once, whatever the number of projections. */
import { epochOf, isSequence, readMessage, UnreadableMessage } from '@bifold/cqrs'
import type { RawMessage } from '@bifold/kafka'
import type { Received, Unreadable } from './plan.ts'

/** What is in messages: events, and what nobody can read; a marker of a relay that began is neither. */
export interface Content { readonly events: readonly Received[], readonly unreadable: readonly Unreadable[] }

export type Reader = (messages: readonly RawMessage[]) => Content

/** A reader of one partition, whose events are known up to `sequence`. */
export function makeReader (sequence: string): Reader {
  const contents = new WeakMap<RawMessage, Received | Unreadable>() // for as long as the message waits for a projection
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
    for (const message of messages) {
      if (message.isControlRecord === true) continue
      let found = contents.get(message)
      if (found === undefined) contents.set(message, found = contentOf(message))
      if ('reason' in found) unreadable.push(found)
      else events.push(found)
    }
    return { events, unreadable }
  }
}
