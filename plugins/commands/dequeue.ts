/** Executes what waits on the topic of commands, partition by partition, by the same group commit as everything else. */
import type { Admin } from 'kafkajs'
import type { FastifyBaseLogger } from 'fastify'
import { Internal, invalidInput, isDomainError, Unavailable, type DomainError } from '@bifold/cqrs'
import { Outdated, topicIdOf, type RawMessage, type Track } from '@bifold/kafka'
import { problemOf } from '@bifold/problem'
import { isRace, type Executor } from './executor.ts'
import type { Outcome } from './commit.ts'
import type { Outcomes, Partition } from './outcomes.ts'
import { readCommand, writePlace, type Queueable } from './queued.ts'
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

type Taken = ReturnType<typeof readCommand> & { readonly offset: number }

/** @throws if PostgreSQL is away, and nobody knows what was done: then it is begun again where the checkpoint is, and what is done is passed over */
async function execute (options: DequeueOptions, own: Partition & { readonly order: object }, messages: readonly RawMessage[]): Promise<void> {
  const { topic, admin, executor, outcomes, waiters, count, log } = options
  const { topicId, partition, order } = own
  const taken = take(options, partition, messages)
  const [done, topicIdNow] = await Promise.all([outcomes.done(taken.map(({ queued }) => queued)), topicIdOf(admin, topic)])
  // An id never comes back: what was read before it was asked for is of this topic, if it is the same.
  if (topicIdNow !== topicId) throw new Outdated('the topic of commands was made anew')
  const left = taken.filter(({ queued }) => !done.has(queued) && done.add(queued)) // the same may be there twice
  // A message that another version of the gateway has written may be against today's schema.
  const results = new Map<Taken, Outcome>(left.flatMap(request => request.wrong === undefined ? [] : [[request, { ok: false, error: invalidInput('body', request.wrong) }]]))
  const valid = left.filter(({ wrong }) => wrong === undefined)
  const executed = await executor.executeAll(valid, order)
  valid.forEach((request, index) => results.set(request, executed[index]!))
  const refused = left.flatMap(request => {
    const outcome = results.get(request)!
    if (outcome.ok || isDoneElsewhere(outcome.error)) return []
    if (outcome.error instanceof Unavailable || isRace(outcome.error)) throw outcome.error
    return [{ id: request.queued, aggregate: request.command.aggregate.name, problem: problem(request, partition, outcome.error, log) }]
  })
  await outcomes.keep(own, Number(messages.at(-1)!.offset) + 1, refused)
  for (const [request, outcome] of results) count(request, outcome)
  waiters.tell(taken.map(({ queued }) => queued))
}

function take ({ commands, log, junk }: DequeueOptions, partition: number, messages: readonly RawMessage[]): Taken[] {
  return messages.flatMap(({ value, offset, isControlRecord }) => {
    if (isControlRecord === true) return []
    try {
      return [{ ...readCommand(value, commands), offset: Number(offset) }]
    } catch (error) {
      junk()
      log.warn({ partition, offset, reason: (error as Error).message }, 'what is no command was passed over')
      return []
    }
  })
}

const isDoneElsewhere = (error: unknown) => (error as { constraint?: string }).constraint === 'queued_commands_pkey'

function problem ({ queued, offset, requestId }: Taken, partition: number, error: unknown, log: FastifyBaseLogger) {
  const known: DomainError = isDomainError(error) ? error : new Internal()
  if (!isDomainError(error)) log.error({ err: error, requestId }, 'queued command failed')
  return problemOf(known, { url: `/commands/${writePlace({ id: queued, partition, offset })}`, id: requestId })
}
