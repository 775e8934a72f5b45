/** Resume tokens: where a watcher has got to, for any query service to go on from, and what it watches. */
import { Timestamp } from 'mongodb'
import { InvalidResumeToken } from '@bifold/cqrs'
import { readOpaque, writeOpaque } from '../opaque.ts'

/** A place in the order of all changes: MongoDB's own resume token, whose text sorts in that order. */
export type Position = string

export interface Mark {
  /** What comes after it is still to be told … */
  readonly after: Position
  /** … but not what happened up to this time: a snapshot has told that. */
  readonly floor?: Timestamp | undefined
}

export const writeToken = (watched: string, { after, floor }: Mark): string =>
  writeOpaque(watched, [after, ...floor === undefined ? [] : [floor.getHighBits(), floor.getLowBits()]])

/** @throws InvalidResumeToken */
export function readToken (token: string, watched: string): Mark {
  const [after, high, low] = readOpaque(token, watched) ?? []
  if (typeof after !== 'string' || !/^82[0-9A-F]{16,2000}$/.test(after)) throw new InvalidResumeToken()
  if (high === undefined) return { after }
  if (!Number.isInteger(high) || !Number.isInteger(low)) throw new InvalidResumeToken()
  return { after, floor: new Timestamp({ t: high as number >>> 0, i: low as number >>> 0 }) }
}

/** When it was: a position begins with its time (a KeyString: the type 0x82, seconds, count), which changes.test.ts compares with what MongoDB tells beside it. */
export const timeOf = (position: Position): Timestamp => new Timestamp({ t: parseInt(position.slice(2, 10), 16), i: parseInt(position.slice(10, 18), 16) })

/** The time just before: where nothing has happened at a position, all that happens then is still to come. */
export const tickBefore = (time: Timestamp): Timestamp => Timestamp.fromBits(time.getLowBits() - 1, time.getHighBits())

/** Whether what happened at a place has been told to one who is at the mark. */
export const isTold = ({ after, floor }: Mark, at: { readonly token: Position, readonly time: Timestamp }): boolean =>
  at.token <= after || (floor !== undefined && at.time.lessThanOrEqual(floor))
