/** One who watches: told what there is or what was missed, then what comes, until it is ended. */
import { WatcherTooSlow } from '@bifold/cqrs'
import { outcomeOf } from '../call.ts'
import { openChanges, type Step } from './changes.ts'
import { isFull, messageOf, type Subject } from './group.ts'
import type { Hub } from './hub.ts'
import { makePending, type Before } from './pending.ts'
import type { Sink } from './sink.ts'
import { readSnapshot, Replaced } from './snapshot.ts'
import { isTold, readToken, timeOf, type Mark, type Position } from './token.ts'

export interface Watcher {
  readonly hub: Hub
  readonly subject: Subject
  readonly sink: Sink
  /** Given, with the reason, when it is to end. */
  readonly signal: AbortSignal
  /** Resolves when it is its turn to be brought up to date. */
  turn (): Promise<Turn>
}

export interface Turn {
  end (): void
  /** Waits for something else than reading, and lets others go on if that takes long. */
  rest (done: Promise<void>): Promise<void>
}

const stepsMax = 50_000 // kept while a snapshot is read or what was missed: 100 s of 500 changes/s
const catchUpWaitMs = 20 // until MongoDB says that there is nothing more
const unknown: Before = { known: false }

/**
 * Watches until it ends, and rejects with the reason.
 *
 * @param token to go on from; empty for a snapshot
 */
export async function watch (watcher: Watcher, token: string): Promise<never> {
  let mark = token === '' ? undefined : readToken(token, watcher.subject.fingerprint)
  while (true) {
    try {
      await once(watcher, mark)
    } catch (error) {
      if (!(error instanceof Replaced)) throw outcomeOf(error)
    }
    mark = undefined // another read model is in place: all is told anew
  }
}

/** Resolves when another read model has taken the place of the one that is watched. */
async function once (watcher: Watcher, mark: Mark | undefined): Promise<void> {
  const { hub, signal } = watcher
  const turn = await watcher.turn()
  const follower = follow(watcher)
  try {
    signal.throwIfAborted()
    const unfollow = await hub.feed.follow(follower)
    try {
      const reached = mark === undefined ? await tellSnapshot(watcher, turn) : await catchUp(watcher, turn, mark)
      follower.reach(reached, mark === undefined)
      turn.end()
      await follower.ended
    } finally {
      unfollow()
      follower.leave()
    }
  } finally {
    turn.end()
  }
}

/** Keeps the steps until it is known which have been told, and tells the others; from there on with all who watch the same. */
function follow ({ hub, subject, sink, signal }: Watcher) {
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>()
  ended.catch(() => {}) // whoever waits for it hears of it
  const kept: { readonly step: Step, readonly before: Before }[] = []
  const pending = makePending(subject.matches)
  let mark: Mark | undefined // while there is one, this watcher is told by itself
  let leave: (() => void) | undefined
  const aborted = () => reject(signal.reason)
  signal.addEventListener('abort', aborted)

  const guarded = (work: () => void) => {
    try {
      work()
    } catch (error) {
      reject(error)
    }
  }
  const add = (step: Step, before: Before) => {
    if (isTold(mark!, step)) return
    if (step.id === undefined) return resolve()
    pending.add(step, before)
    if (isFull(pending)) tell({ ...mark!, after: step.token })
  }
  const tell = (to: Mark) => {
    mark = to
    sink.send(messageOf(subject, pending, to))
  }
  const member = { send: (message: Uint8Array) => guarded(() => sink.send(message)), broken: reject, restart: resolve }
  const moved = () => {
    const { position } = hub.feed
    if (mark === undefined || leave !== undefined || !isPast(mark, position)) return
    if (pending.size > 0) tell({ after: position })
    mark = undefined
    leave = hub.enter(subject, member)
  }
  return {
    ended,
    broken: reject,
    step (step: Step, before: Before) {
      if (leave !== undefined) return
      if (mark !== undefined) guarded(() => add(step, before))
      else if (kept.push({ step, before }) > stepsMax) reject(new WatcherTooSlow())
    },
    moved: () => guarded(moved),
    /** Begins to tell what comes after the mark; `always` tells the mark itself, whether anything came or not. */
    reach (reached: Mark, always: boolean) {
      guarded(() => {
        mark = reached
        for (const { step, before } of kept.splice(0)) add(step, before)
        const { position } = hub.feed
        if (always || pending.size > 0) tell({ ...mark, after: position > mark.after ? position : mark.after })
        moved()
      })
    },
    leave () {
      signal.removeEventListener('abort', aborted)
      leave?.()
    }
  }
}

/** Nothing that comes after the position has been told to one at the mark. */
const isPast = ({ after, floor }: Mark, position: Position): boolean => position >= after && (floor === undefined || timeOf(position).greaterThan(floor))

/** Sends all there is, and gives the mark of it. */
async function tellSnapshot ({ hub: { db, collection, feed }, subject: { where, encode }, sink, signal }: Watcher, turn: Turn): Promise<Mark> {
  const { position: after, gone } = feed
  let begins = true
  let floor
  for await (const { documents, time } of readSnapshot(db, collection, where, gone, signal)) {
    sink.send(encode({ begins, changed: documents, removed: [], resumeToken: '' }))
    await turn.rest(sink.drained(signal))
    begins = false
    floor = time
  }
  return { after, floor }
}

/** Sends what was missed since the mark, up to where the feed is, and gives the mark of it. */
async function catchUp ({ hub: { db, collection, feed }, subject, sink, signal }: Watcher, turn: Turn, mark: Mark): Promise<Mark> {
  const { position: goal, gone } = feed
  const changes = await openChanges(db, collection, { after: mark.after, waitMs: catchUpWaitMs }) // also if it is as far: it tells whether the token is one
  const pending = makePending(subject.matches)
  let reached = mark
  let isThere = mark.after >= goal
  try {
    while (!isThere) {
      signal.throwIfAborted()
      const step = await changes.next()
      if (step !== undefined && !isTold(reached, step)) {
        if (step.id === undefined) throw new Replaced('a rebuild')
        pending.add(step, unknown)
      }
      reached = { ...mark, after: changes.position }
      // Where nothing happens, no position comes up to that of a feed that has just begun.
      isThere = reached.after >= goal || (step === undefined && timeOf(reached.after).greaterThanOrEqual(gone))
      if (isFull(pending)) {
        sink.send(messageOf(subject, pending, reached))
        await turn.rest(sink.drained(signal))
      }
    }
  } finally {
    await changes.close().catch(() => {})
  }
  if (pending.size > 0) sink.send(messageOf(subject, pending, reached))
  return reached
}
