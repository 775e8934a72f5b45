/** The lanes of the partitions that a projector has: opened where MongoDB says, one for each, and stopped when the partitions go. */
import type { Consumer } from 'kafkajs'
import type { ConsumeOptions } from './consume.ts'
import { makeLane, type Lane } from './lane.ts'
import { Outdated } from './letters.ts'
import { loadPositions, project, type Positions } from './project.ts'

export function makeLanes (options: ConsumeOptions, consumer: Pick<Consumer, 'pause' | 'resume' | 'seek'>, failed: (error: unknown) => void) {
  const { topic, holding, log } = options
  const lanes = new Map<number, { lane: Lane, positions: Positions }>()
  let assigned: readonly number[] = []
  const only = (...partitions: number[]) => [{ topic, partitions }]

  // What is opened and stopped is so one after the other: rebalances overlap, and a lane may be fenced off while it is being stopped.
  let turn = Promise.resolve()
  const inTurn = async (work: () => Promise<void>) => {
    turn = turn.catch(() => {}).then(work)
    await turn
  }

  const open = async (partition: number, among: readonly number[]) => {
    const positions = await loadPositions(options, partition)
    if (among !== assigned) return // another assignment has come meanwhile, and will open its own
    const lane = makeLane({
      start: positions.start,
      project: async messages => await project(options, partition, messages, positions),
      pause: () => consumer.pause(only(partition)),
      resume: () => consumer.resume(only(partition)),
      holding: held => holding(partition, held),
      failed: error => error instanceof Outdated ? renew(partition, lane, error.message) : failed(error)
    })
    lanes.set(partition, { lane, positions })
    consumer.seek({ topic, partition, offset: String(positions.start) })
    consumer.resume(only(partition))
  }

  const close = async (partition: number) => {
    const opened = lanes.get(partition)
    lanes.delete(partition)
    await opened?.lane.stop()
    holding(partition, undefined)
  }

  const assign = async (partitions: readonly number[]) => {
    assigned = partitions
    await inTurn(async () => {
      await Promise.all([...lanes.keys()].map(close))
      if (partitions === assigned) await Promise.all(partitions.map(async partition => await open(partition, partitions)))
    })
  }

  /** Begins a partition again where MongoDB says now, if this is its lane still. */
  const renew = (partition: number, lane: Lane, reason: string) => {
    const isGone = () => lanes.get(partition)?.lane !== lane
    if (isGone()) return
    log.warn({ partition, reason }, 'the partition is begun again')
    consumer.pause(only(partition))
    inTurn(async () => {
      if (isGone()) return
      await close(partition)
      await open(partition, assigned)
    }).catch(failed)
  }

  return {
    async begin (partitions: readonly number[]) {
      consumer.pause(only(...partitions)) // what were read meanwhile would be read in vain, over and over
      await assign(partitions)
    },
    of: (partition: number): Lane | undefined => lanes.get(partition)?.lane,
    renew,
    offsets: () => [...lanes].map(([partition, { positions }]) => ({ topic, partition, offset: String(positions.start) })),
    stop: async () => await assign([])
  }
}
