/** One who watches: told what there is or what was missed, then what comes, until it is ended. */
import { outcomeOf } from '../call.ts'
import { openChanges, type Changes, type Step } from './changes.ts'
import { isFull, messageOf, type Subject } from './group.ts'
import { silenceMs, type Hub } from './hub.ts'
import { makePending, type Before } from './pending.ts'
import type { Sink } from './sink.ts'
import { readSnapshot, Replaced } from './snapshot.ts'
import { isTold, readToken, timeOf, type Mark, type Position } from './token.ts'
import type { Turn } from './turn.ts'

export interface Watcher {
  readonly hub: Hub
  readonly subject: Subject
  readonly sink: Sink
  /** Given, with the reason, when it is to end. */
  readonly signal: AbortSignal
  /** Resolves when it is its turn to be brought up to date; rejects with the signal's reason. */
  turn (signal: AbortSignal): Promise<Turn>
}

const keptBytesMax = 512 * 1024 // of changes, while a snapshot is read or what was missed: with what else may wait it is what a client has room for
const stepBytes = 200 // of what is kept of a change beside its document
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
  const silence = setInterval(() => tellNothing(watcher), silenceMs)
  try {
    const turn = await watcher.turn(signal)
    const follower = follow(watcher)
    try {
      const unfollow = await hub.feed.follow(follower)
      try {
        let reached = mark === undefined ? await tellSnapshot(watcher, turn) : await catchUp(watcher, turn, follower, mark)
        // Where more has happened meanwhile than is kept, it is read once more, as fast as the client takes it.
        while (!follower.reach(reached, mark === undefined)) reached = await catchUp(watcher, turn, follower, reached)
        turn.end()
        clearInterval(silence)
        await follower.ended
      } finally {
        unfollow()
        follower.leave()
      }
    } finally {
      turn.end()
    }
  } finally {
    clearInterval(silence)
  }
}

/** For as long as it is not known what there is to tell: a stream on which nothing comes is taken for a dead one. */
function tellNothing ({ subject: { encode }, sink }: Watcher) {
  if (sink.unsent === 0) sink.send(encode({ begins: false, changed: [], removed: [], resumeToken: '' }))
}

type Follower = ReturnType<typeof follow>

/** Keeps the steps until it is known which have been told, and tells the others; from there on with all who watch the same. */
function follow ({ hub, subject, sink, signal }: Watcher) {
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>()
  ended.catch(() => {}) // whoever waits for it hears of it
  const kept = makeKept()
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
      else kept.add(step, before)
    },
    moved: () => guarded(moved),
    /** Keeps only what comes from now on. */
    keepAnew: () => kept.clear(),
    /** Begins to tell what comes after the mark; `always` tells the mark itself, whether anything came or not. False if not all that has come is kept. */
    reach (reached: Mark, always: boolean): boolean {
      if (!kept.isWhole) return false
      guarded(() => {
        mark = reached
        for (const { step, before } of kept.take()) add(step, before)
        const { position } = hub.feed
        if (always || pending.size > 0) tell({ ...mark, after: position > mark.after ? position : mark.after })
        moved()
      })
      return true
    },
    leave () {
      signal.removeEventListener('abort', aborted)
      leave?.()
    }
  }
}

/** The changes that have come, as long as they are few. */
function makeKept () {
  let steps: { readonly step: Step, readonly before: Before }[] = []
  let bytes = 0 // of all that have come
  const clear = () => { [steps, bytes] = [[], 0] }
  return {
    add (step: Step, before: Before) {
      bytes += step.bytes + stepBytes
      if (bytes <= keptBytesMax) steps.push({ step, before })
      else steps = []
    },
    get isWhole () { return bytes <= keptBytesMax },
    clear,
    take () {
      const taken = steps
      clear()
      return taken
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
async function catchUp ({ hub: { db, collection, feed }, subject, sink, signal }: Watcher, turn: Turn, follower: Follower, mark: Mark): Promise<Mark> {
  const { position: goal, gone } = feed
  follower.keepAnew() // all that comes behind the goal
  const changes = await open(openChanges(db, collection, { after: mark.after, waitMs: catchUpWaitMs }), signal) // also if it is as far: it tells whether the token is one
  const pending = makePending(subject.matches)
  let reached = mark
  let isThere = mark.after >= goal
  try {
    while (!isThere) {
      const step = await unless(signal, changes.next())
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
  await turn.rest(sink.drained(signal))
  return reached
}

/** MongoDB may have to go through much that others have written: whoever leaves meanwhile does not wait for that. */
async function open (opening: Promise<Changes>, signal: AbortSignal): Promise<Changes> {
  try {
    return await unless(signal, opening)
  } catch (error) {
    void opening.then(async changes => await changes.close()).catch(() => {})
    throw error
  }
}

/** What the work gives. @throws the signal's reason */
async function unless<T> (signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const gone = () => reject(signal.reason)
  signal.addEventListener('abort', gone)
  if (signal.aborted) gone()
  return await Promise.race([work, promise]).finally(() => signal.removeEventListener('abort', gone))
}
