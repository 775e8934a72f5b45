/** Executes what waits on the topic of commands, partition by partition, by the same group commit as everything else. */
import type { Admin } from 'kafkajs'
import type { FastifyBaseLogger } from 'fastify'
import { Internal, isDomainError, Unavailable, type DomainError } from '@bifold/cqrs'
import { Outdated, topicIdOf, type RawMessage, type Track } from '@bifold/kafka'
import { problemOf } from '@bifold/problem'
import { isRace, type Executor } from './executor.ts'
import type { Outcome } from './commit.ts'
import type { Outcomes, Partition } from './outcomes.ts'
import { readCommand, writePlace, type Message, type Queueable } from './queued.ts'
import type { Request } from './request.ts'
import type { Waiters } from './waiters.ts'

export interface DequeueOptions {
  readonly topic: string
  readonly admin: Admin
  readonly executor: Executor
  readonly outcomes: Outcomes
  readonly waiters: Waiters
  readonly commands: ReadonlyMap<string, Queueable>
  readonly log: FastifyBaseLogger
  /** Told what became of each, and of what is no command. */
  readonly count: (request: Request, outcome: Outcome) => void
  readonly junk: () => void
}

/** Opens a partition where PostgreSQL says. */
export const openIn = (options: DequeueOptions) => async (partition: number): Promise<readonly Track[]> => {
  const { topic, admin, outcomes, log } = options
  const topicId = await topicIdOf(admin, topic)
  if (await outcomes.forgetOthers(topicId)) log.error({ topic, topicId }, 'the topic of commands was made anew: it is begun at its beginning, and what waited on the one before is lost')
  const range = (await admin.fetchTopicOffsets(topic)).find(found => found.partition === partition)
  const [low, high] = [Number(range?.low ?? 0), Number(range?.high ?? 0)]
  let next = (await outcomes.checkpoints(topicId)).get(partition)
  if (next !== undefined && next > high) {
    log.error({ partition, next, high }, 'the topic of commands is shorter than before: what waited there is lost')
    await outcomes.forget(partition)
    next = undefined
  }
  let at = Math.max(next ?? low, low)
  const own = { topicId, partition, order: {} }
  return [{
    get next () { return at },
    async work (messages) {
      await execute(options, own, messages)
      at = Number(messages.at(-1)!.offset) + 1
    }
  }]
}

type Taken = Message & { readonly problem: (error: unknown) => unknown }

/** @throws if PostgreSQL is away, and nobody knows what was done: then it is begun again where the checkpoint is, and what is done is passed over */
async function execute (options: DequeueOptions, own: Partition & { readonly order: object }, messages: readonly RawMessage[]): Promise<void> {
  const { topic, admin, executor, outcomes, waiters, count } = options
  const { topicId, partition, order } = own
  const taken = take(options, partition, messages)
  const [done, topicIdNow] = await Promise.all([outcomes.done(taken.map(({ queued }) => queued)), topicIdOf(admin, topic)])
  // An id never comes back: what was read before it was asked for is of this topic, if it is the same.
  if (topicIdNow !== topicId) throw new Outdated('the topic of commands was made anew')
  const left = taken.filter(({ queued }) => !done.has(queued) && done.add(queued)) // the same may be there twice
  // First: whoever has crashed and begins again must not find one acceptable after all, when later ones are done.
  await outcomes.refuse(left.flatMap(one => 'error' in one ? [{ id: one.queued, aggregate: one.aggregate, problem: one.problem(one.error) }] : []))
  const requests = left.flatMap(one => 'request' in one ? [{ ...one.request, queued: { id: one.queued, problem: one.problem } }] : [])
  const executed = await executor.executeAll(requests, order)
  for (const outcome of executed) {
    if (!outcome.ok && (outcome.error instanceof Unavailable || isRace(outcome.error))) throw outcome.error
  }
  await outcomes.keep(own, Number(messages.at(-1)!.offset) + 1)
  requests.forEach((request, index) => count(request, executed[index]!))
  waiters.tell(taken.map(({ queued }) => queued))
}

function take ({ commands, log, junk }: DequeueOptions, partition: number, messages: readonly RawMessage[]): Taken[] {
  return messages.flatMap(({ value, offset, isControlRecord }) => {
    if (isControlRecord === true) return []
    try {
      const message = readCommand(value, commands)
      const place = writePlace({ id: message.queued, partition, offset: Number(offset) })
      return [{ ...message, problem: (error: unknown) => problem(place, message.requestId, error, log) }]
    } catch (error) {
      junk()
      log.warn({ partition, offset, reason: (error as Error).message }, 'what is no command was passed over')
      return []
    }
  })
}

function problem (place: string, requestId: string, error: unknown, log: FastifyBaseLogger) {
  const known: DomainError = isDomainError(error) ? error : new Internal()
  if (!isDomainError(error)) log.error({ err: error, requestId }, 'queued command failed')
  return problemOf(known, { url: `/commands/${place}`, id: requestId })
}
