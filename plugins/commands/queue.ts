/** The queue of commands: accepts them into Kafka, bounds how many wait there, executes them, and tells what became of them. */
import { randomUUID } from 'node:crypto'
import { Counter } from 'prom-client'
import type { FastifyInstance } from 'fastify'
import { Overloaded } from '@bifold/cqrs'
import { consume, ensureTopic, kafkaAdminOf, kafkaOf } from '@bifold/kafka'
import { databaseOf, dbOf } from '@bifold/postgres'
import { backgroundOf, drainOf, metricsOf } from '@bifold/service'
import { makeSender } from './accept.ts'
import { makeBacklog } from './backlog.ts'
import type { Outcome } from './commit.ts'
import { openIn } from './dequeue.ts'
import type { Executor } from './executor.ts'
import { removeOld } from './keys.ts'
import { makeOutcomes, type Status } from './outcomes.ts'
import { readPlace, writeCommand, writePlace, type Queueable } from './queued.ts'
import type { Request } from './request.ts'
import { makeWaiters } from './waiters.ts'

export interface QueueOptions {
  /** The topic of the events; that of the commands is beside it. */
  readonly topic: string
  /** Commands that wait; one more is refused. */
  readonly queuedMax?: number
}

export interface Queue {
  /** Resolves with the command's id in the queue when Kafka has it for good. Rejects with UNAVAILABLE or OVERLOADED. */
  accept (name: string, request: Request): Promise<string>
  /** Waits so long for the outcome, if there is none yet. Rejects with COMMAND_NOT_FOUND or UNAVAILABLE. */
  status (id: string, waitMs: number): Promise<Status>
}

export interface Queued { readonly executor: Executor, readonly commands: ReadonlyMap<string, Queueable>, readonly tokenSecret: string, readonly count: (request: Request, outcome: Outcome) => void }

const fetchWaitMs = 200 // who waits in the queue can wait so long, should its partition be resumed while nothing comes in for others; every gateway asks Kafka all day, whether anybody uses the queue or not
const queuedMaxDefault = 50_000 // some seconds of work; with bodies of 1 KB, 50 MB in Kafka

export function makeQueue (app: FastifyInstance, { topic: events, queuedMax = queuedMaxDefault }: QueueOptions, { executor, commands, tokenSecret, count }: Queued): Queue {
  const topic = `${events}.commands`
  const db = dbOf(app)
  const outcomes = makeOutcomes(db, topic, tokenSecret)
  const sender = makeSender(topic)
  const waiters = makeWaiters(outcomes)
  const backlog = makeBacklog(app, topic, outcomes)
  const junk = new Counter({ name: 'bifold_command_queue_junk_total', help: 'Messages on the topic of commands that were no commands', registers: [metricsOf(app)] })

  backgroundOf(app)('command queue', async ({ signal, ready }) => {
    const admin = await kafkaAdminOf(app)()
    await ensureTopic(admin, topic, { keepForEver: true })
    const producer = kafkaOf(app).producer({ allowAutoTopicCreation: false, maxInFlightRequests: 1, retry: { retries: 2 } })
    const failed = Promise.withResolvers<never>()
    failed.promise.catch(() => {})
    const over = new AbortController()
    try {
      await producer.connect()
      await backlog.measure()
      sender.begin(producer, backlog.partitions, failed.reject)
      ready()
      await Promise.race([backlog.watch(AbortSignal.any([signal, over.signal])), failed.promise])
    } finally {
      over.abort()
      await sender.end()
      await producer.disconnect().catch(() => {})
    }
  }, { beside: true })

  backgroundOf(app)('queued commands', async ({ signal, ready }) => {
    const admin = await kafkaAdminOf(app)()
    await ensureTopic(admin, topic, { keepForEver: true })
    await consume({
      kafka: kafkaOf(app),
      topic,
      fetchWaitMs,
      // Two gateways on one topic and different databases would share the work, and each find only its half done.
      groupId: `bifold-commands.${databaseOf(db)}.${topic}`,
      signal,
      log: app.log,
      open: openIn({ topic, admin, executor, outcomes, waiters, commands, log: app.log, count, junk: () => junk.inc() }),
      holding: backlog.holding
    }, ready)
  }, { beside: true })

  removeOld(app, 'outcomes of queued commands', 'queued_commands')
  return {
    async accept (name, request) {
      if (backlog.waiting >= queuedMax) throw new Overloaded()
      backlog.accepting()
      const id = randomUUID()
      const { partition, offset } = await sender.send(request.id, writeCommand(name, id, request))
      backlog.accepted(partition, offset)
      return writePlace({ id, partition, offset })
    },
    async status (text, waitMs) {
      const place = readPlace(text)
      const isOnTopic = async () => await backlog.has(place)
      const found = await outcomes.find(place, backlog.topicId, isOnTopic)
      if (found.status !== 'queued' || waitMs <= 0) return found
      await waiters.wait(place.id, waitMs, drainOf(app).leaving)
      return await outcomes.find(place, backlog.topicId, isOnTopic)
    }
  }
}
