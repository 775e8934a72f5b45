/** Waits until a read model shows what consistency tokens name, within the deadline of the call. */
import { setTimeout } from 'node:timers/promises'
import type { Db } from 'mongodb'
import { Cancelled, DeadlineExceeded, notesName, type AnyAggregate, type AnyProjection, type Place } from '@bifold/cqrs'
import { outcomeOf, type Call } from './call.ts'
import type { Moves } from './moves.ts'
import { graceMs } from './turns.ts'

export interface Freshness {
  /** Those of them that this read model shows at all. */
  shown (places: readonly Place[]): Place[]
  /** Resolves when the read model shows these places. Rejects with DeadlineExceeded or Cancelled, or as a read does. */
  reached (places: readonly Place[], call: Pick<Call, 'deadline' | 'onEnd'>): Promise<void>
  close (): void
}

interface Waiting { readonly id: string, readonly version: number, settle (error?: unknown): void }

const idsMax = 1000 // looked up at once
const paceMs = 5 // between two looks: a projector at full rate moves more often, and nobody notices this
const lookMaxMs = 5000 // one look, of a thousand ids: as long as who waits for it may; another may go to another server
const lookMs = 500 // without a step of the read model, in case the stream of them is broken

/** A projection shows an aggregate if it takes its events: all of them, which the conformance suite sees to. */
const shows = ({ on }: AnyProjection, { events }: AnyAggregate): boolean => Object.keys(events).some(type => type in on)

export function makeFreshness (db: Db, projection: AnyProjection, aggregates: readonly AnyAggregate[], moves: Moves): Freshness {
  const names = new Set(aggregates.filter(aggregate => shows(projection, aggregate)).map(({ name }) => name))
  const { collection } = projection
  const waiting = new Set<Waiting>()
  let unfollow: (() => void) | undefined

  const look = async () => {
    const group = [...waiting]
    for (let at = 0; at < group.length; at += idsMax) {
      const some = group.slice(at, at + idsMax)
      try {
        const versions = await versionsOf(db, collection, some.map(({ id }) => id))
        for (const one of some) if ((versions.get(one.id) ?? 0) >= one.version) one.settle()
      } catch (error) {
        for (const one of some) one.settle(outcomeOf(error))
      }
    }
    if (waiting.size > 0) unfollow ??= moves.follow(collection, soon)
  }
  const soon = paced(look, () => {
    if (waiting.size > 0) return 'again'
    unfollow?.()
    unfollow = undefined
    return 'rest'
  })
  const looks = setInterval(() => { if (waiting.size > 0 || unfollow !== undefined) soon() }, lookMs).unref() // and those who have given up are followed no more

  const begin = ({ id, version }: Place) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const one: Waiting = {
      id,
      version,
      settle (error) {
        if (!waiting.delete(one)) return
        if (error === undefined) resolve()
        else reject(error)
      }
    }
    waiting.add(one)
    return { one, promise }
  }
  const shown = (places: readonly Place[]) => places.filter(({ aggregate }) => names.has(aggregate))
  return {
    shown,
    async reached (places, call) {
      const begun = shown(places).map(begin)
      if (begun.length === 0) return
      const end = (error: Error) => { for (const { one } of begun) one.settle(error) }
      const timer = globalThis.setTimeout(() => end(new DeadlineExceeded()), Math.max(0, call.deadline - Date.now()))
      call.onEnd(() => end(new Cancelled()))
      soon()
      try {
        await Promise.all(begun.map(async ({ promise }) => await promise))
      } finally {
        clearTimeout(timer)
      }
    },
    close: () => clearInterval(looks)
  }
}

/** Does a work when it is asked to: once at a time, and once more for whoever has asked meanwhile; `rested` says after each whether there is any more to do. */
function paced (work: () => Promise<void>, rested: () => 'again' | 'rest'): () => void {
  let [working, asked] = [false, false]
  const run = async () => {
    while (asked) {
      asked = false
      await work()
      if (rested() === 'rest') break
      if (asked) await setTimeout(paceMs)
    }
    working = false
  }
  return () => {
    asked = true
    if (working) return
    working = true
    void run()
  }
}

/** Which version of each aggregate a read model shows: its document says so, or the projector's note of it. */
async function versionsOf (db: Db, collection: string, ids: readonly string[]): Promise<Map<string, number>> {
  const versions = new Map<string, number>()
  const find = async (name: string) => await db.collection<{ _id: string, version?: number }>(name).find({ _id: { $in: [...ids] } }, { projection: { version: 1 }, maxTimeMS: lookMaxMs, signal: AbortSignal.timeout(lookMaxMs + graceMs) }).toArray()
  // The notes first: a rebuild puts the documents in place before them.
  for (const name of [notesName(collection), collection]) {
    for (const { _id, version = 0 } of await find(name)) versions.set(_id, Math.max(version, versions.get(_id) ?? 0))
  }
  return versions
}
