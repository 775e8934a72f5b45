/**
 * Builds read models again while commands and reads go on: beside the live ones, until they are as far, and then in their place in
 * one step (blue/green deployment).
 */
import { setTimeout } from 'node:timers/promises'
import type { Kafka } from 'kafkajs'
import type { AnyProjection } from '@bifold/cqrs'
import { checkpoints, type Checkpoint } from './apply.ts'
import { build, type BuildOptions } from './build.ts'
import { claim, install, releaseAll, type Build } from './claim.ts'
import { consume } from './consume.ts'
import { graceMs as defaultGraceMs, keptUntil, removeOld } from './grace.ts'

export interface RebuildOptions extends BuildOptions {
  readonly kafka: Kafka
  /** Told how many events of the topic are still missing. */
  readonly behind: (events: number) => void
  /** For how long what was live before is kept. */
  readonly graceMs?: number
}

/** What was live before, under the name and until the time for which it is kept. */
export interface Kept { readonly name: string, readonly until: Date }

const nearEvents = 1000 // some 50 ms of work: the live read model stands still for so long
const againMs = 50 // how often it is looked how far they are
const standMsMax = 30_000 // the live read model waits no longer than this for the new one; else it goes on, and nothing has happened

/**
 * @returns what is kept of those before; nothing where the server does not let us
 * @throws if somebody else is building one of them, or on the way; the live ones are as they were then
 */
export async function rebuild (options: RebuildOptions, projections: readonly AnyProjection[]): Promise<Kept[]> {
  const { db, graceMs = defaultGraceMs } = options
  const builds: Build[] = []
  try {
    for (const projection of projections) builds.push(await claim(db, projection))
    await removeOld(db, projections, graceMs)
    await build(options, builds)
    const following = follow(options, builds)
    try {
      await Promise.race([following.ended, untilNear(options, builds)])
      const kept = await install(db, builds, async live => {
        await Promise.race([following.ended, untilPast(options, live)])
        await following.stop()
      })
      return kept.map(name => ({ name, until: keptUntil(name, graceMs) }))
    } finally {
      await following.stop()
    }
  } finally {
    await releaseAll(builds)
  }
}

/** Applies what has come in on the topic since. */
function follow (options: RebuildOptions, builds: readonly Build[]) {
  const { db, kafka, admin, topic, declared, log } = options
  const ending = new AbortController()
  const groupId = `bifold-rebuild.${builds[0]!.next.collection}`
  const ended = consume({
    db,
    kafka,
    admin,
    topic,
    groupId,
    projections: builds.map(({ next }) => next),
    declared,
    signal: AbortSignal.any([options.signal, ending.signal]),
    log,
    applied () {},
    disordered () {},
    leftOut () {},
    holding () {}
  }, () => {}).then(() => { if (!ending.signal.aborted) throw new Error('it was interrupted') })
  ended.catch(() => {}) // whoever waits for it hears of it
  return {
    ended,
    async stop () {
      ending.abort()
      await ended.catch(() => {})
      await admin.deleteGroups([groupId]).catch(() => {}) // it expires by itself
    }
  }
}

async function untilNear (options: RebuildOptions, builds: readonly Build[]) {
  while (true) {
    for (const { held } of builds) held()
    const ends = await options.admin.fetchTopicOffsets(options.topic)
    const found = await checkpoints(options.db).find({ projection: { $in: builds.map(({ next }) => next.collection) } }).toArray()
    const events = found.reduce((all, { partition, offset }) => all + Math.max(0, Number(ends.find(end => end.partition === partition)?.high ?? 0) - offset), 0)
    options.behind(events)
    if (events <= nearEvents) return
    await setTimeout(againMs)
  }
}

/** Until they have got as far as the live ones stand. */
async function untilPast ({ db }: RebuildOptions, live: readonly { readonly next: AnyProjection, readonly checkpoints: readonly Checkpoint[] }[]) {
  const begun = performance.now()
  while (true) {
    const found = await checkpoints(db).find({ projection: { $in: live.map(({ next }) => next.collection) } }).toArray()
    const reached = (projection: string, at: number) => found.find(({ projection: name, partition }) => name === projection && partition === at)?.offset ?? 0
    if (live.every(({ next, checkpoints }) => checkpoints.every(({ partition, offset }) => reached(next.collection, partition) >= offset))) return
    if (performance.now() - begun > standMsMax) throw new Error(`The new read models were not as far as the live ones within ${standMsMax} ms`)
    await setTimeout(againMs)
  }
}
