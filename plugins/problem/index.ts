/** Turns every error of a request into application/problem+json (RFC 9457). */
import { STATUS_CODES, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import fp from 'fastify-plugin'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { BadRequest, BodyTooLarge, fieldErrors, HeadersTooLarge, Internal, InvalidJson, invalidInput, isDomainError, RequestTimeout, RouteNotFound, UnsupportedMediaType, type DomainError } from '@bifold/cqrs'

export default fp(async app => {
  app.setErrorHandler<FastifyError>((error, request, reply) => {
    const known = translated(error, request)
    if (known.statusCode >= 500) request.log[known.retryable ? 'warn' : 'error']({ err: error }, 'request failed')
    return send(known, request, reply)
  })
  app.setNotFoundHandler((request, reply) => send(new RouteNotFound(request.method, request.url), request, reply))
}, { name: 'problem' })

/** Answers a URL that no route can be found for. To be Fastify's `frameworkErrors`. */
export function urlError (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  reply.header('x-request-id', request.id) // no hook runs for it
  send(new BadRequest(error.message), request, reply)
}

/** Answers what is not even a request, in the same form, and closes the connection. To be Fastify's `clientErrorHandler`. */
export function clientError (error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  // The answer of a command that came in well before the garbage must not be taken for this one: it may be committed.
  const { _httpMessage: earlier } = socket as { _httpMessage?: ServerResponse | null }
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT' && earlier != null && ownTime.has(earlier.req)) return
  if (earlier?.req.complete === true) {
    socket.pause()
    earlier.once('close', () => socket.destroySoon())
    return
  }
  // Of an answer that has begun, nobody would take it for the end.
  if (earlier?.headersSent === true) {
    socket.destroy()
    return
  }
  const known = error.code === 'HPE_HEADER_OVERFLOW' ? new HeadersTooLarge() : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? new RequestTimeout() : new BadRequest('It is not an HTTP request')
  const body = JSON.stringify(problem(known))
  socket.end(`HTTP/1.1 ${known.statusCode} ${STATUS_CODES[known.statusCode]}\r\nContent-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`)
  // One that sends on and on is not waited for.
  socket.destroySoon()
}

const ownTime = new WeakSet<IncomingMessage>()

/** Leaves it to the request's route how long the body may take: for one that is read and answered bit by bit. */
export const takesItsTime = (request: FastifyRequest): void => { ownTime.add(request.raw) }

const problem = (error: DomainError) => ({
  type: `/errors/${error.code}`,
  title: STATUS_CODES[error.statusCode] ?? 'Client Closed Request',
  status: error.statusCode,
  detail: error.message,
  code: error.code
})

/** An error's members (RFC 9457), as the whole answer to a request or as a part of it. */
export function problemOf (error: DomainError, request: Pick<FastifyRequest, 'url' | 'id'>) {
  const { code, ...rest } = problem(error)
  return { ...rest, instance: request.url, code, requestId: request.id, ...error.errors === undefined ? {} : { errors: error.errors } }
}

function send (error: DomainError, request: FastifyRequest, reply: FastifyReply) {
  if (error.retryable) reply.header('retry-after', '1') // 1 s, the least that the header can say
  return reply.code(error.statusCode).type('application/problem+json').send(problemOf(error, request))
}

// Fastify's own errors, in Bifold's words.
const fastifyErrors: Record<string, (error: FastifyError, request: FastifyRequest) => DomainError> = {
  FST_ERR_CTP_BODY_TOO_LARGE: () => new BodyTooLarge(),
  FST_ERR_CTP_INVALID_MEDIA_TYPE: (_, request) => new UnsupportedMediaType(request.headers['content-type'] ?? '', accepted(request)),
  FST_ERR_CTP_INVALID_JSON_BODY: error => new InvalidJson(error.message),
  FST_ERR_CTP_EMPTY_JSON_BODY: () => new InvalidJson('it is empty')
}

// What a route takes that is not for JSON, as its schema tells it to the OpenAPI document.
const accepted = ({ routeOptions }: FastifyRequest): string => (routeOptions.schema as { consumes?: string[] } | undefined)?.consumes?.join(' or ') ?? 'application/json'

const parts: Record<string, string> = { body: 'body', params: 'path', headers: 'headers' }

/** An error in words that a client may see. */
export function translated (error: FastifyError, request: FastifyRequest): DomainError {
  if (isDomainError(error)) return error
  if (error.validation !== undefined) return invalidInput(parts[error.validationContext ?? ''] ?? 'request', fieldErrors(error.validation as never))
  const own = fastifyErrors[error.code]
  if (own !== undefined) return own(error, request)
  if (error instanceof SyntaxError) return new InvalidJson(error.message)
  return error.statusCode !== undefined && error.statusCode < 500 ? new BadRequest(error.message) : new Internal()
}
