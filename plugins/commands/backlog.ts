/** How many commands wait in the queue: measured again and again, and counted meanwhile. What is done is deleted from the topic. */
import { setTimeout } from 'node:timers/promises'
import { Gauge } from 'prom-client'
import type { FastifyInstance } from 'fastify'
import { Unavailable } from '@bifold/cqrs'
import { kafkaAdminOf, makeBehind, topicIdOf, type Held } from '@bifold/kafka'
import { metricsOf, within } from '@bifold/service'
import type { Outcomes } from './outcomes.ts'
import type { Place } from './queued.ts'

const measureEveryMs = 1000 // what other gateways accept in a second may come on top of the bound
const measureMs = 2000 // longer than healthy servers take
const deleteEveryMs = 60_000 // what is done takes room for a minute

export function makeBacklog (app: FastifyInstance, topic: string, outcomes: Outcomes) {
  const held = new Map<number, Held>()
  const ends = new Map<number, number>()
  let topicId: string | undefined
  let checkpoints = new Map<number, number>()
  // What was measured last, and what has come since the measuring began: rather too many than too few.
  let [measured, countedBefore, counted, isKnown] = [0, 0, 0, false]
  const behind = makeBehind()
  const waiting = () => measured + counted - countedBefore

  const measure = async () => {
    const countedThen = counted
    const [id, ranges] = await within(measureMs, kafkaAdminOf(app)().then(async admin => await Promise.all([topicIdOf(admin, topic), admin.fetchTopicOffsets(topic)])))
    if (id !== topicId) checkpoints = new Map() // of another topic than before
    topicId = id
    // While PostgreSQL is away, nothing is executed: what was known last is still so.
    checkpoints = await within(measureMs, outcomes.checkpoints(id)).catch(() => checkpoints)
    for (const { partition, high } of ranges) ends.set(partition, Number(high))
    measured = behind.look(ranges, [({ partition, low }) => Math.max(Number(low), checkpoints.get(partition) ?? 0)])
    countedBefore = countedThen
    isKnown = true
  }

  const gauge = (name: string, help: string, value: () => number) => new Gauge({ name, help, aggregator: 'max', registers: [metricsOf(app)], collect () { this.set(isKnown ? value() : NaN) } }) // each worker measures all
  gauge('bifold_command_queue_length', 'Commands that wait in the queue; NaN if Kafka does not say', waiting)
  gauge('bifold_command_queue_oldest_seconds', 'For how long the oldest of them has waited, as far as this gateway has seen', () => {
    const oldest = Math.min(behind.since, ...[...held.values()].map(({ since }) => since))
    return waiting() === 0 || oldest === Infinity ? 0 : Math.max(0, Date.now() - oldest) / 1000
  })

  return {
    measure,
    get waiting () { return waiting() },
    get partitions () { return ends.size },
    /** Of the topic that was measured last. */
    get topicId () { return topicId },
    /** Counts one that is about to be sent. */
    accepting () { counted++ },
    accepted (partition: number, offset: number) { ends.set(partition, Math.max(ends.get(partition) ?? 0, offset + 1)) },
    /** Whether the topic goes as far; another gateway may have sent it in this second. Rejects with UNAVAILABLE if Kafka has to be asked, and does not say. */
    async has ({ partition, offset }: Place): Promise<boolean> {
      const isBefore = () => offset < (ends.get(partition) ?? 0)
      if (!isBefore()) await measure().catch(() => { throw new Unavailable('Kafka') })
      return isBefore()
    },
    /** Told what is read of a partition and not yet done. */
    holding (partition: number, now: Held | undefined) {
      if (now === undefined) held.delete(partition)
      else held.set(partition, now)
    },
    /** Measures until the signal. */
    async watch (signal: AbortSignal): Promise<void> {
      for (let deletedAt = Date.now(); !signal.aborted;) {
        await setTimeout(measureEveryMs, undefined, { signal }).catch(() => {})
        await measure().catch(() => { isKnown = false }) // what was known last still bounds the queue
        if (Date.now() - deletedAt < deleteEveryMs || checkpoints.size === 0) continue
        deletedAt = Date.now()
        const partitions = [...checkpoints].map(([partition, next]) => ({ partition, offset: String(next) }))
        await (await kafkaAdminOf(app)()).deleteTopicRecords({ topic, partitions }).catch(() => {}) // it is there for a minute more
      }
    }
  }
}
