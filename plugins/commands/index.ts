/** Mounts the modules' commands as HTTP routes and executes them in groups. */
import fp from 'fastify-plugin'
import { Counter } from 'prom-client'
import { Type } from 'typebox'
import type { FastifyInstance, RouteOptions } from 'fastify'
import { compiler, isDomainError, processesByType, type BoundCommand, type Module } from '@bifold/cqrs'
import { responses } from '@bifold/openapi'
import { dbOf } from '@bifold/postgres'
import { metricsOf } from '@bifold/service'
import { batchRoutes, mediaTypes, type BatchCommand, type BatchLimits } from './batch.ts'
import { bodyBytes, takeBodies } from './body.ts'
import { clean } from './clean.ts'
import type { Outcome } from './commit.ts'
import { makeExecutor, type Executor, type Limits } from './executor.ts'
import { newId } from './ids.ts'
import { removeOld } from './keys.ts'
import { tokenOf } from './token.ts'
import { expectedVersions, Headers, idempotencyKey, traceparent } from './headers.ts'
import { keyMember } from './line.ts'
import { preferences } from './prefer.ts'
import { makeQueue, type Queue, type QueueOptions } from './queue.ts'
import type { Queueable } from './queued.ts'
import type { Answer } from './request.ts'
import { statusRoute } from './status.ts'

/** `queue`: commands may wait in Kafka, which then has to be registered. `tokenSecret` is the query service's too: what consistency tokens are signed with. */
export interface CommandsOptions { modules: readonly Module[], tokenSecret?: string, limits?: Partial<Limits>, batchLimits?: Partial<BatchLimits>, queue?: QueueOptions }

const Id = Type.Object({ id: Type.String({ format: 'uuid' }) })
const AnswerBody = Type.Object({ id: Type.String({ format: 'uuid' }), version: Type.Integer({ description: 'Rises by one with each event; also the ETag' }) })
const Accepted = Type.Object({ id: Type.Optional(Type.String({ format: 'uuid', description: 'Of the aggregate; not for a command that creates one and has an Idempotency-Key, of which `Location` tells whether it was done before' })), command: Type.String(), status: Type.Literal('queued') })

/** What processes need. */
export interface Commands {
  readonly executor: Executor
  /** Told whenever an event was committed that a process has to react to. */
  onCommitted (listener: () => void): void
}

export const commandsOf = (app: FastifyInstance): Commands => app.getDecorator<Commands>('commands')

export default fp<CommandsOptions>(async (app, { modules, tokenSecret = '', limits, batchLimits, queue: queueOptions }) => {
  const listeners: (() => void)[] = []
  const executor = makeExecutor(dbOf(app), metricsOf(app), limits, { byType: processesByType(modules), committed: () => listeners.forEach(listener => listener()) })
  app.decorate('commands', { executor, onCommitted: listener => listeners.push(listener) } satisfies Commands)
  const counter = new Counter({ name: 'bifold_commands_total', help: 'Commands by what became of them', labelNames: ['command', 'outcome'], registers: [metricsOf(app)] })
  const batches: BatchCommand[] = []
  const queueable = new Map<string, Queueable>()
  const counts = new Map<BoundCommand, (outcome: Outcome) => void>()
  const queue = queueOptions && makeQueue(app, queueOptions, { executor, commands: queueable, tokenSecret, count: ({ command }, outcome) => counts.get(command)!(outcome) })
  takeBodies(app)
  removeOld(app, 'idempotency keys', 'idempotency_keys')
  for (const module of modules) {
    const compile = compiler(module.formats)
    for (const [name, command] of Object.entries(module.commands)) {
      const count = (outcome: Outcome) => counter.inc({ command: name, outcome: outcome.ok ? 'accepted' : isDomainError(outcome.error) ? outcome.error.code : 'INTERNAL' })
      const counted = async (work: Promise<Answer>) => {
        try {
          const answer = await work
          count({ ok: true, answer })
          return answer
        } catch (error) {
          count({ ok: false, error })
          throw error
        }
      }
      counts.set(command, count)
      queueable.set(queueName(module, name), { command, validate: compile(command.input) })
      app.route({ ...route({ name, module, command, executor, counted, tokenSecret, queue }), validatorCompiler: ({ schema }) => compile(schema as object) })
      if (keyMember in command.input.properties) throw new Error(`${name}: a line of a batch has its Idempotency-Key in ${keyMember}, so that no field of a command can have that name`)
      if (command.creates && command.method === 'POST') batches.push({ name, module, command, tokenSecret, compile, count })
    }
  }
  if (queue !== undefined) app.route(statusRoute(queue))
  await app.register(async child => {
    child.removeAllContentTypeParsers()
    child.addContentTypeParser(mediaTypes, (_, body, done) => done(null, body)) // as it comes
    for (const route of batchRoutes(child, executor, batches, batchLimits)) child.route(route)
  })
}, { name: 'commands', dependencies: ['postgres', 'openapi', 'background'] })

const queueName = (module: Module, name: string) => `${module.name}.${name}`

interface Mounted {
  readonly name: string
  readonly module: Module
  readonly command: BoundCommand
  readonly executor: Executor
  readonly counted: (work: Promise<Answer>) => Promise<Answer>
  readonly tokenSecret: string
  readonly queue: Queue | undefined
}

function route ({ name, module, command, executor, counted, tokenSecret, queue }: Mounted): RouteOptions {
  const { method, url, summary, input, example, creates } = command
  const hasBody = Object.keys(input.properties).length > 0
  return {
    method,
    url,
    schema: {
      operationId: name,
      summary,
      tags: [module.name],
      headers: Headers,
      ...creates ? {} : { params: Id },
      ...hasBody ? { body: { ...input, examples: [example] } } : {},
      response: {
        ...responses(creates ? 201 : 200, 'Done, and kept for good', AnswerBody, problems(command)),
        ...queue === undefined ? {} : { 202: { description: 'With `Prefer: respond-async`: it waits in the queue, and will be done once and in order; `Location` tells what became of it', ...Accepted } }
      }
    },
    preValidation: async request => { request.body = clean(request.body ?? undefined) },
    handler: async (request, reply) => {
      const asked = {
        command,
        id: creates ? newId() : (request.params as { id: string }).id.toLowerCase(),
        input: request.body ?? {},
        bytes: bodyBytes(request),
        expected: expectedVersions(request.headers['if-match']),
        key: idempotencyKey(request),
        requestId: request.id,
        traceparent: traceparent(request.headers['traceparent'])
      }
      if (queue !== undefined && request.headers['prefer'] !== undefined && preferences(request).respondAsync) {
        const queued = await queue.accept(queueName(module, name), asked)
        return await reply.code(202).headers({ location: `/commands/${queued}`, 'preference-applied': 'respond-async' }).send({ ...creates && asked.key !== undefined ? {} : { id: asked.id }, command: queued, status: 'queued' })
      }
      const answer = await counted(executor.execute(asked))
      const { id, version, replayed } = answer
      request.log.debug({ command: name, id, version }, 'command committed')
      reply.header('etag', `"${version}"`)
      reply.header('consistency-token', tokenOf(tokenSecret, command, answer))
      if (replayed) reply.header('idempotency-replayed', 'true')
      if (creates) reply.code(201).header('location', `${url}/${id}`)
      return { id, version }
    }
  }
}

const problems = ({ creates, sees }: BoundCommand) => ({
  400: 'The input is wrong; `errors` names each field',
  ...creates && sees === undefined ? {} : { 404: sees === undefined ? 'It does not exist' : 'It, or what it needs, does not exist' },
  409: 'It is against a rule',
  412: 'It is at another version than If-Match says',
  413: 'The body is too large',
  415: 'The body is not JSON',
  422: 'The Idempotency-Key was used for another request',
  503: 'Try again after a moment: PostgreSQL is away, or too many commands are waiting'
})
