/** Fills read models that have nothing yet: at the first start, after the loss of MongoDB, and when Kafka no longer has what they have not seen. */
import type { AnyProjection } from '@bifold/cqrs'
import { unbuilt } from './apply.ts'
import { build, type BuildOptions } from './build.ts'
import { BeingBuilt, claim, install, isClaimed, releaseAll, type Build } from './claim.ts'

/** Fills those that have no checkpoint in any partition; afterwards each has one in every partition. */
export async function fillEmpty (options: BuildOptions, projections: readonly AnyProjection[]): Promise<void> {
  const { db } = options
  const builds: Build[] = []
  try {
    // Looked at first: one that a rebuild has emptied for a moment is left to it. A claim of ours that came when it was over would have the next rebuild refused.
    const claimed = await Promise.all(projections.map(async projection => await isClaimed(db, projection)))
    for (const projection of await empty(options, projections)) {
      if (claimed[projections.indexOf(projection)]) throw new BeingBuilt(projection.collection)
      builds.push(await claim(db, projection))
    }
    if (builds.length === 0) return
    // What somebody had left unfinished may have some now.
    const still = await empty(options, builds.map(({ projection }) => projection))
    const ours = builds.filter(({ projection }) => still.includes(projection))
    if (ours.length === 0) return
    await build(options, ours)
    await install(db, ours, async () => {})
  } finally {
    await releaseAll(builds)
  }
}

const empty = async ({ db, admin, topic }: BuildOptions, projections: readonly AnyProjection[]): Promise<AnyProjection[]> =>
  await unbuilt(db, topic, await admin.fetchTopicOffsets(topic), projections)
