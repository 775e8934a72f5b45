/** The lanes of the partitions that a consumer has: opened where its store says, one for each, and stopped when the partitions go. */
import type { Consumer } from 'kafkajs'
import type { FastifyBaseLogger } from 'fastify'
import { makeLane, type Held, type Lane, type Track } from './lane.ts'

/** What a consumer believes of a partition is no longer so: it is to be asked of the store again. */
export class Outdated extends Error {}

export interface LanesOptions {
  readonly topic: string
  /** Asks the store where those who work on a partition stand. */
  readonly open: (partition: number) => Promise<readonly Track[]>
  readonly log: FastifyBaseLogger
  /** Told what of a partition is at hand and not yet worked on. */
  readonly holding: (partition: number, held: Held | undefined) => void
}

export function makeLanes ({ topic, open: openAt, holding, log }: LanesOptions, consumer: Pick<Consumer, 'pause' | 'resume' | 'seek'>, failed: (error: unknown) => void) {
  const lanes = new Map<number, Lane>()
  let assigned: readonly number[] = []
  const only = (...partitions: number[]) => [{ topic, partitions }]

  // What is opened and stopped is so one after the other: rebalances overlap, and a lane may be fenced off while it is being stopped.
  let turn = Promise.resolve()
  const inTurn = async (work: () => Promise<void>) => {
    turn = turn.catch(() => {}).then(work)
    await turn
  }

  const open = async (partition: number, among: readonly number[]) => {
    const tracks = await openAt(partition)
    if (among !== assigned) return // another assignment has come meanwhile, and will open its own
    const lane = makeLane({
      tracks,
      pause: () => consumer.pause(only(partition)),
      resume: () => consumer.resume(only(partition)),
      holding: held => holding(partition, held),
      failed: error => error instanceof Outdated ? renew(partition, lane, error.message) : failed(error)
    })
    lanes.set(partition, lane)
    consumer.seek({ topic, partition, offset: String(lane.next) })
    consumer.resume(only(partition))
  }

  const close = async (partition: number) => {
    const found = lanes.get(partition)
    lanes.delete(partition)
    await found?.stop()
    holding(partition, undefined)
  }

  const assign = async (partitions: readonly number[]) => {
    assigned = partitions
    await inTurn(async () => {
      await Promise.all([...lanes.keys()].map(close))
      if (partitions === assigned) await Promise.all(partitions.map(async partition => await open(partition, partitions)))
    })
  }

  /** Begins a partition again where the store says now, if this is its lane still. */
  const renew = (partition: number, lane: Lane, reason: string) => {
    const isGone = () => lanes.get(partition) !== lane
    if (isGone()) return
    log.warn({ partition, reason }, 'the partition is begun again')
    inTurn(async () => {
      if (isGone()) return
      consumer.pause(only(partition)) // throws, if the consumer is being disconnected
      await close(partition)
      await open(partition, assigned)
    }).catch(failed)
  }

  return {
    async begin (partitions: readonly number[]) {
      consumer.pause(only(...partitions)) // what were read meanwhile would be read in vain, over and over
      await assign(partitions)
    },
    of: (partition: number): Lane | undefined => lanes.get(partition),
    renew,
    offsets: () => [...lanes].map(([partition, { start }]) => ({ topic, partition, offset: String(start) })),
    stop: async () => await assign([])
  }
}
