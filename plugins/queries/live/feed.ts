/** One change stream of a read model for all who watch it in this process, and none while nobody does. */
import { setTimeout } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { Timestamp, type Db } from 'mongodb'
import { openChanges, type Changes, type Step } from './changes.ts'
import type { Before } from './pending.ts'
import { makeRecent } from './recent.ts'
import { tickBefore, timeOf, type Position } from './token.ts'

export interface Follower {
  /** A change, and what the document was before. What is done with it is done at once. */
  step (step: Step, before: Before): void
  /** All followers have been told what there is up to the feed's position. */
  moved (): void
  /** The feed has broken: what comes now is not told. */
  broken (error: unknown): void
}

export interface Feed {
  /** Resolves when nothing can be missed from the feed's position on, which the follower may be told before; rejects as a read does. Gives the function that ends it. */
  follow (follower: Follower): Promise<() => void>
  /** The same while somebody else follows, at once. */
  join (follower: Follower): () => void
  /** Up to which all followers have been told. */
  readonly position: Position
  /** What happened up to this time, some of it or all, is not told any more: a snapshot has to show it. */
  readonly gone: Timestamp
  /** How old the last change was when it was told. */
  readonly lagSeconds: number
  close (): Promise<void>
}

// Of a thousand changes that MongoDB gives at once, also a quick client has no room for all: 25 MB/s is what one at 2 ms takes through HTTP/2's window of 64 KB, and more than a projector writes.
const pace = { bytes: 256 * 1024, restMs: 10 }
const waitMs = 1000 // the longest until a position moves on, and until a feed ends that nobody follows

function makePace () {
  let told = 0
  return async (bytes: number) => {
    told += bytes
    if (told < pace.bytes) return
    told = 0
    await setTimeout(pace.restMs)
  }
}

/** A document that is written once more as it is: there is nothing to tell. */
const isRepeated = ({ after }: Step, before: Before): boolean => before.known && before.document !== undefined && isDeepStrictEqual(before.document, after)

export function makeFeed (db: Db, collection: string): Feed {
  const followers = new Set<Follower>()
  const recent = makeRecent()
  let [position, gone, lagSeconds]: [Position, Timestamp, number] = ['', new Timestamp(0n), 0]
  let opening: Promise<Changes> | undefined

  const join = (follower: Follower) => {
    followers.add(follower)
    return () => { followers.delete(follower) }
  }
  const run = async (changes: Changes) => {
    const rest = makePace()
    try {
      while (followers.size > 0) {
        const step = await changes.next()
        gone = step?.time ?? tickBefore(timeOf(changes.position))
        if (step !== undefined) {
          lagSeconds = Math.max(0, Math.floor(Date.now() / 1000) - step.time.getHighBits()) // MongoDB tells whole seconds
          const before = recent.replace(step)
          if (!isRepeated(step, before)) for (const follower of followers) follower.step(step, before)
        }
        position = changes.position
        for (const follower of followers) follower.moved()
        await rest(step?.bytes ?? 0)
      }
      opening = undefined // who comes now begins anew
    } catch (error) {
      opening = undefined
      const all = [...followers]
      followers.clear()
      for (const follower of all) follower.broken(error)
    }
    recent.clear()
    await changes.close().catch(() => {})
  }
  const open = async () => {
    const changes = await openChanges(db, collection, { waitMs })
    position = changes.position
    gone = tickBefore(timeOf(position))
    return changes
  }
  return {
    get position () { return position },
    get gone () { return gone },
    get lagSeconds () { return lagSeconds },
    async follow (follower) {
      const mine = opening ??= open().then(changes => {
        setImmediate(() => { void run(changes) })
        return changes
      })
      followers.add(follower) // first, so that it is not ended meanwhile
      try {
        await mine
      } catch (error) {
        followers.delete(follower)
        if (opening === mine) opening = undefined
        throw error
      }
      return join(follower)
    },
    join,
    async close () {
      const changes = await opening?.catch(() => undefined)
      await changes?.close().catch(() => {})
    }
  }
}
