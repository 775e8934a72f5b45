/** Mounts a command that creates once more, for many at a time: NDJSON in, one line of NDJSON out for each, in their order. */
import { Readable } from 'node:stream'
import type { ValidateFunction } from 'ajv'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import pLimit from 'p-limit'
import { pMapIterable } from 'p-map'
import { Type, type TSchema } from 'typebox'
import { Cancelled, Overloaded, Stopping, Unavailable, UnsupportedMediaType, type BoundCommand, type DomainError, type Module } from '@bifold/cqrs'
import { responses } from '@bifold/openapi'
import { problemOf, takesItsTime, translated } from '@bifold/problem'
import { drainOf } from '@bifold/service'
import type { Outcome } from './commit.ts'
import type { Executor } from './executor.ts'
import { Key, keyOf, traceparent } from './headers.ts'
import { newId } from './ids.ts'
import { keyMember, readLine } from './line.ts'
import { readStretches, type Line } from './lines.ts'
import type { Answer, Request } from './request.ts'
import { tokenOf } from './token.ts'

export const mediaTypes = ['application/x-ndjson', 'application/jsonl']

const keyBytesMax = 1024 // the member with the key, beside a body that is as large as it may be

export interface BatchLimits {
  /** Batches at once; one more is refused. */
  readonly batchesMax: number
  /** Stretches of one batch that are decoded, executed, or wait to be sent. */
  readonly stretchesMax: number
  /** Stretches that are decoded or executed; the others wait. */
  readonly stretchesInAllMax: number
  readonly stretchLinesMax: number
  /** How long a client may take for a line. */
  readonly lineMs: number
  /** How long a client may take to notice that it need not send the rest. */
  readonly lingerMs: number
}

export const batchLimits: BatchLimits = {
  batchesMax: 64, // each holds a line and what one read gives, 200 KB; a client needs one
  stretchesMax: 4, // lines of 250 bytes: two groups of 500, one that is committed while the other is decoded
  stretchesInAllMax: 8, // at most 4,000 lines: single commands find more than half of the queue free
  stretchLinesMax: 500, // as many as a transaction takes
  lineMs: 30_000, // as for a request
  lingerMs: 2000 // the last line has arrived by then, which a connection closed at once would take along
}

/** A command as it is mounted for batches. */
export interface BatchCommand {
  readonly name: string
  readonly module: Module
  readonly command: BoundCommand
  /** Signs the consistency token of each line. */
  readonly tokenSecret: string
  readonly compile: (schema: object) => ValidateFunction
  /** Is told what became of each line. */
  readonly count: (outcome: Outcome) => void
}

/** What becomes of a stretch. */
interface Done {
  /** Its answers, as they are sent. */
  readonly text: string
  /** The line after it. */
  readonly nextLine: number
  /** Why it is of no use to go on. */
  readonly outage: DomainError | undefined
  /** Whether any of its lines was done. */
  readonly some: boolean
}

/** @returns the routes of these commands; what all batches have in common is bounded together */
export function batchRoutes (app: FastifyInstance, executor: Executor, commands: readonly BatchCommand[], own: Partial<BatchLimits> = {}): RouteOptions[] {
  const limits = { ...batchLimits, ...own }
  const inAll = pLimit(limits.stretchesInAllMax)
  const running = new Set<AbortController>()
  const { leaving } = drainOf(app)
  leaving.addEventListener('abort', () => { for (const stop of running) stop.abort(new Stopping()) })

  return commands.map(mounted => {
    const execute = makeExecute(executor, mounted)
    return {
      method: 'POST',
      url: `${mounted.command.url}::batch`, // a colon inside a path segment is escaped by another
      schema: schemaOf(mounted),
      validatorCompiler: ({ schema, httpPart }) => httpPart === 'body' ? () => true : mounted.compile(schema as object), // the body is checked line by line
      handler: async (request, reply) => {
        if (!(request.body instanceof Readable)) throw new UnsupportedMediaType('', mediaTypes.join(' or '))
        if (leaving.aborted) throw new Stopping()
        if (running.size >= limits.batchesMax) throw new Overloaded()
        const stop = new AbortController()
        running.add(stop)
        takesItsTime(request)
        reply.raw.once('close', () => {
          running.delete(stop)
          stop.abort(new Cancelled())
          if (!request.raw.complete) setTimeout(() => { if (!request.raw.complete) request.raw.socket.destroy() }, limits.lingerMs).unref()
        })
        const answers = answersOf({ request, reply, stop, limits, done: async lines => await inAll(async () => await execute(lines, request, reply)) })
        // Until the first line is answered, the answer can still be a problem.
        const first = await answers.next()
        return await reply.type(mediaTypes[0]!).send(Readable.from(resumed(first, answers), { objectMode: false }))
      }
    }
  })
}

async function * resumed (first: IteratorResult<string, void>, rest: AsyncGenerator<string, void>): AsyncGenerator<string, void> {
  if (first.done === true) return
  yield first.value
  yield * rest
}

interface Batch {
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  /** Aborted, nothing more is read; what was read is still answered. */
  readonly stop: AbortController
  readonly limits: BatchLimits
  readonly done: (lines: readonly Line[]) => Promise<Done>
}

/** @throws why there is no answer at all; what comes later is told in a last line */
async function * answersOf ({ request, reply, stop, limits, done }: Batch): AsyncGenerator<string, void> {
  const { stretchesMax: concurrency, stretchLinesMax, lineMs } = limits
  const stretches = readStretches(request.body as Readable, { lineBytesMax: request.server.initialConfig.bodyLimit! + keyBytesMax, stretchLinesMax, lineMs }, stop.signal)
  let [nextLine, begun] = [1, false]
  try {
    for await (const { text, nextLine: next, outage, some } of pMapIterable(stretches, done, { concurrency, backpressure: concurrency })) {
      if (outage !== undefined && !begun && !some) throw outage
      if (outage !== undefined) stop.abort(outage) // what is under way is answered, and nothing more is read
      nextLine = next
      if (text === '') continue // blank lines only
      begun = true
      yield text
    }
  } catch (error) {
    const gone = reply.raw.destroyed || (request.raw.destroyed && !request.raw.complete)
    const known = gone ? new Cancelled() : translated(error as never, request)
    if (!begun) throw gone ? known : error
    if (gone) return
    if (known.statusCode >= 500) request.log[known.retryable ? 'warn' : 'error']({ err: error, nextLine }, 'batch ended early')
    yield `${JSON.stringify({ ...problemOf(known, request), nextLine })}\n`
  }
}

/** Makes the function that decodes a stretch, has it committed, and writes its answers. */
function makeExecute (executor: Executor, { command, compile, count, tokenSecret }: BatchCommand) {
  const [validate, validateKey] = [compile(command.input), compile(Key)]
  const requestOf = (line: Line, request: FastifyRequest, key: string | undefined): Request | undefined => {
    const read = readLine(line, validate, validateKey)
    if (read === undefined) return undefined
    const { input, key: own = key === undefined ? undefined : `${key}/${line.number}` } = read
    return {
      command,
      id: newId(),
      input,
      bytes: line.bytes!.length,
      expected: undefined,
      key: own === undefined ? undefined : keyOf(own, [command.method, command.url, null, input]), // as if it were sent alone
      requestId: request.id,
      traceparent: traceparent(request.headers['traceparent'])
    }
  }
  return async (lines: readonly Line[], request: FastifyRequest, reply: FastifyReply): Promise<Done> => {
    if (reply.raw.destroyed) throw new Cancelled()
    const key = request.headers['idempotency-key'] as string | undefined
    const requests: Request[] = []
    // The outcome of a line, or where in the requests it is.
    const read = lines.flatMap((line): { number: number, outcome: Outcome | number }[] => {
      try {
        const made = requestOf(line, request, key)
        return made === undefined ? [] : [{ number: line.number, outcome: requests.push(made) - 1 }]
      } catch (error) {
        return [{ number: line.number, outcome: { ok: false, error } }]
      }
    })
    const outcomes = await executor.executeAll(requests, request)
    let text = ''
    let outage: DomainError | undefined
    for (const { number, outcome: known } of read) {
      const outcome = typeof known === 'number' ? outcomes[known]! : known
      count(outcome)
      if (!outcome.ok) outage ??= outageOf(outcome.error)
      text += answer(number, outcome, request, answer => tokenOf(tokenSecret, command, answer))
    }
    return { text, nextLine: lines.at(-1)!.number + 1, outage, some: outcomes.some(({ ok }) => ok) }
  }
}

const outageOf = (error: unknown) => error instanceof Unavailable ? error : undefined

function answer (line: number, outcome: Outcome, request: FastifyRequest, token: (answer: Answer) => string): string {
  if (outcome.ok) {
    const { id, version, replayed } = outcome.answer
    return `{"line":${line},"status":201,"id":"${id}","version":${version},"consistencyToken":"${token(outcome.answer)}"${replayed === true ? ',"replayed":true' : ''}}\n`
  }
  const known = translated(outcome.error as never, request)
  if (known.statusCode >= 500 && !known.retryable) request.log.error({ err: outcome.error, line }, 'line failed')
  return `${JSON.stringify({ line, ...problemOf(known, request) })}\n`
}

const LineAnswer = Type.Object({
  line: Type.Optional(Type.Integer({ minimum: 1, description: 'The line that is answered; the last line of a batch that ends early has none' })),
  status: Type.Integer({ examples: [201] }),
  id: Type.Optional(Type.String({ format: 'uuid' })),
  version: Type.Optional(Type.Integer()),
  consistencyToken: Type.Optional(Type.String({ description: 'As the header Consistency-Token of a command that is sent alone' })),
  replayed: Type.Optional(Type.Boolean({ description: 'It is the answer that was given before to the same key' })),
  code: Type.Optional(Type.String({ description: 'Of a line that was refused, with the other members of a problem' })),
  nextLine: Type.Optional(Type.Integer({ description: 'Of the last line of a batch that ends early: the first line that has no answer' }))
}, { additionalProperties: true })

function schemaOf ({ name, module, command: { summary, input, example } }: BatchCommand) {
  const line: TSchema = { ...input, properties: { ...input.properties, [keyMember]: Key }, examples: [example] }
  return {
    operationId: `${name}Batch`,
    summary: `${summary}: many, one a line (NDJSON)`,
    description: 'Each line is the body of one command, and is answered by one line, in the order of the lines; a line that is refused holds up no other. ' +
      'The answer begins before the body ends: read while you send. Blank lines are passed over. Lines are executed in their order. ' +
      `A line may carry its own Idempotency-Key as the member \`${keyMember}\`; with the header, each line has that key, a slash, and its number. ` +
      'A batch that ends early (a server is away, the gateway is being stopped, a line takes more than 30 s) ends with a problem whose `nextLine` is the first line without an answer.',
    tags: [module.name],
    consumes: mediaTypes,
    headers: Type.Object({ 'idempotency-key': Type.Optional(Key) }),
    body: line,
    response: {
      ...responses(200, '', LineAnswer, {
        400: 'It is not HTTP, or the header is wrong',
        408: 'No line came for 30 s',
        415: 'The body is not NDJSON',
        503: 'Try again after a moment: PostgreSQL is away, too many batches are under way, or the gateway is being stopped'
      }),
      200: { description: 'One line for each', content: { [mediaTypes[0]!]: { schema: LineAnswer } } }
    }
  }
}
