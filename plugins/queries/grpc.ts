/** Mounts a module's queries as a gRPC service: one adapter turns async functions into callbacks and errors into statuses. */
import type { Metadata, ServerUnaryCall, ServerWritableStream, ServiceDefinition, handleServerStreamingCall, handleUnaryCall, sendUnaryData } from '@grpc/grpc-js'
import type { FastifyBaseLogger } from 'fastify'
import { BadRequest, Cancelled, isDomainError, type Service } from '@bifold/cqrs'
import { streamLimits } from '@bifold/grpc'
import type { Answer } from './answer.ts'
import { deadlineMs, listenersMax } from './call.ts'
import type { Format, Watch } from './live/index.ts'
import { statusOf } from './status.ts'

const waitMaxMs = streamLimits.silenceMs - 5000 // then the answer is DEADLINE_EXCEEDED, before the stream is cancelled for its silence without a reason

/** The service as grpc-js takes it, made from what ts-proto generated. */
export function serviceDefinition ({ fullName, methods }: Service): ServiceDefinition {
  return Object.fromEntries(Object.entries(methods).map(([key, { name, requestType, requestStream, responseType, responseStream }]) => [key, {
    path: `/${fullName}/${name}`,
    requestStream,
    responseStream,
    requestSerialize: (value: unknown) => Buffer.from(requestType.encode(value).finish()),
    requestDeserialize: (bytes: Buffer) => readable(() => requestType.decode(bytes)),
    responseSerialize: (value: unknown) => value instanceof Uint8Array ? asBuffer(value) : asBuffer(responseType.encode(value).finish()),
    responseDeserialize: (bytes: Buffer) => responseType.decode(bytes)
  }]))
}

/** The handlers of a module's queries. */
export function unary (answers: Readonly<Record<string, Answer>>, log: FastifyBaseLogger): Record<string, handleUnaryCall<unknown, unknown>> {
  return Object.fromEntries(Object.entries(answers).map(([name, answer]) => [name, (call: ServerUnaryCall<unknown, unknown>, reply: sendUnaryData<unknown>) => {
    if (call.request instanceof Unreadable) return reply(statusOf(new BadRequest('The message is not one of this RPC')))
    answer(call.request, { deadline: deadlineOf(call), tokens: tokensOf(call), connection: () => call.getPeer(), gone: () => call.cancelled, onEnd: listener => call.setMaxListeners(listenersMax).on('cancelled', listener) }).then(
      response => reply(null, response),
      (error: unknown) => {
        if (!isDomainError(error)) log.error({ err: error, rpc: name }, 'query failed')
        reply(statusOf(error))
      })
  }]))
}

/** News as messages of the RPC. */
export const grpcFormat: Format = (type, message) => news => asBuffer(type.encode(message(news)).finish())

/** The handlers of the queries that are watched. */
export function streaming (watches: Readonly<Record<string, Watch>>, log: FastifyBaseLogger): Record<string, handleServerStreamingCall<unknown, unknown>> {
  return Object.fromEntries(Object.entries(watches).map(([name, watch]) => [name, (call: ServerWritableStream<unknown, unknown>) => {
    if (call.request instanceof Unreadable) return call.emit('error', statusOf(new BadRequest('The message is not one of this RPC')))
    const leaving = new AbortController()
    for (const event of ['cancelled', 'finish', 'error']) call.once(event, () => leaving.abort(new Cancelled()))
    const write = (message: Uint8Array, written: () => void) => {
      if (call.writableEnded) written() // it ends when what waits is taken; one message more would break it off
      else call.write(message, () => written())
    }
    watch(call.request, { write }, { tokens: tokensOf(call), signal: leaving.signal }).catch((error: unknown) => {
      if (leaving.signal.aborted) return // it has ended already
      if (!isDomainError(error)) log.error({ err: error, rpc: name }, 'watch failed')
      call.emit('error', statusOf(error))
    })
  }]))
}

/** In place of a message that cannot be decoded: grpc-js would call it INTERNAL, and nobody could tell it from a fault of ours. */
class Unreadable {}

function readable (decode: () => unknown): unknown {
  try {
    return decode()
  } catch {
    return new Unreadable()
  }
}

const tokensOf = ({ metadata }: { metadata: Metadata }): string[] => metadata.get('consistency-token').map(String)

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

function deadlineOf (call: ServerUnaryCall<unknown, unknown>): number {
  const deadline = Number(call.getDeadline())
  return Number.isFinite(deadline) ? Math.min(deadline, Date.now() + waitMaxMs) : Date.now() + deadlineMs
}
