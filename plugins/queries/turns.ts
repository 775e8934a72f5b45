/** Reads of many documents take turns: so many at a time, and none while too much waits to be sent. Who waits takes no connection, and next to no memory. */
import { setTimeout as after } from 'node:timers'
import { setTimeout } from 'node:timers/promises'
import { Cancelled, DeadlineExceeded } from '@bifold/cqrs'
import { outcomeOf, type Call } from './call.ts'
import { answerBytesMax } from './read-model.ts'

export interface TurnLimits {
  /** Going on at a time. */
  readonly readsMax: number
  /** Found for calls that have not ended; then nothing more is read. */
  readonly bytesMax: number
  /** Of these, for the calls of one connection; then nothing more is read for it, so that a client that does not fetch its answers holds up itself. */
  readonly connectionBytesMax: number
}

export const graceMs = 1000 // of a deadline, for MongoDB to say that it has ended the work; then its connection is given up

/** Reads when it is its turn, within the deadline of the call; the signal says that nobody waits any more. */
export type Turns = <Found extends { readonly bytes: number }>(call: Call, read: (maxTimeMs: number, signal: AbortSignal) => Promise<Found>) => Promise<Found>

/** What was found for the calls of one connection, and what may be: each of its reads under way may find as much as the last one did. */
interface Share { calls: number, bytes: number, reading: number, likely: number }

export function makeTurns ({ readsMax, bytesMax, connectionBytesMax }: TurnLimits): Turns {
  let [reading, bytes] = [0, 0]
  const shares = new Map<unknown, Share>() // of the connections whose calls have not all ended
  const waiting = new Map<() => void, Share>() // no more than there are queries under way
  const shareOf = (connection: unknown): Share => {
    const share = shares.get(connection) ?? { calls: 0, bytes: 0, reading: 0, likely: answerBytesMax }
    shares.set(connection, share)
    return share
  }
  const begin = () => {
    for (const [next, share] of waiting) {
      if (reading >= readsMax || bytes >= bytesMax) break
      if (share.bytes + share.reading * share.likely >= connectionBytesMax) continue // those behind it may be others'
      waiting.delete(next)
      reading++
      share.reading++
      next()
    }
  }
  return async (call, read) => {
    const left = leftMs(call)
    const connection = call.connection()
    const share = shareOf(connection)
    share.calls++
    const end = Promise.withResolvers<never>()
    const leaving = new AbortController()
    let [ended, held] = [false, 0]
    let begun = () => {}
    let late: NodeJS.Timeout | undefined
    call.onEnd(() => {
      ended = true
      bytes -= held
      share.bytes -= held
      if (--share.calls === 0) shares.delete(connection)
      begin()
      // Past the deadline MongoDB ends the work by itself, and we keep the connection; unless it says nothing at all.
      if (Date.now() < call.deadline) leaving.abort(new Cancelled())
      else late = after(() => leaving.abort(new Cancelled()), graceMs).unref()
      end.reject(new Cancelled())
    })
    const turn = async () => {
      await new Promise<void>(resolve => {
        begun = resolve
        waiting.set(begun, share)
        begin()
      })
      try {
        const found = await read(leftMs(call), leaving.signal)
        share.likely = found.bytes
        if (!ended) {
          bytes += held = found.bytes
          share.bytes += held
        }
        return found
      } finally {
        clearTimeout(late)
        reading--
        share.reading--
        begin()
      }
    }
    try {
      return await first(left, turn(), end.promise)
    } finally {
      waiting.delete(begun)
    }
  }
}

/** Of what was read, the end of the time and the end of the call: whatever comes first. */
async function first<T> (leftMs: number, read: Promise<T>, ended: Promise<never>): Promise<T> {
  const timer = new AbortController()
  try {
    return await Promise.race([read, setTimeout(leftMs, undefined, { signal: timer.signal }).then(() => { throw new DeadlineExceeded() }), ended])
  } catch (error) {
    throw outcomeOf(error)
  } finally {
    timer.abort()
  }
}

/** @throws if nobody waits any more, or there is no time left */
function leftMs (call: Call): number {
  const left = Math.ceil(call.deadline - Date.now())
  if (call.gone()) throw new Cancelled()
  if (left <= 0) throw new DeadlineExceeded()
  return left
}
