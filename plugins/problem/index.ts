/** Turns every error of a request into application/problem+json (RFC 9457). */
import { STATUS_CODES } from 'node:http'
import fp from 'fastify-plugin'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { BadRequest, BodyTooLarge, fieldErrors, Internal, InvalidJson, invalidInput, isDomainError, RouteNotFound, UnsupportedMediaType, type DomainError } from '@bifold/cqrs'

export default fp(async app => {
  app.setErrorHandler<FastifyError>((error, request, reply) => {
    const known = translated(error, request)
    if (known.statusCode >= 500) request.log[known.retryable ? 'warn' : 'error']({ err: error }, 'request failed')
    return send(known, request, reply)
  })
  app.setNotFoundHandler((request, reply) => send(new RouteNotFound(request.method, request.url), request, reply))
}, { name: 'problem' })

function send (error: DomainError, request: FastifyRequest, reply: FastifyReply) {
  if (error.retryable) reply.header('retry-after', '1') // 1 s, the least that the header can say
  return reply.code(error.statusCode).type('application/problem+json').send({
    type: `/errors/${error.code}`,
    title: STATUS_CODES[error.statusCode] ?? 'Client Closed Request',
    status: error.statusCode,
    detail: error.message,
    instance: request.url,
    code: error.code,
    requestId: request.id,
    ...error.errors === undefined ? {} : { errors: error.errors }
  })
}

// Fastify's own errors, in Bifold's words.
const fastifyErrors: Record<string, (error: FastifyError, request: FastifyRequest) => DomainError> = {
  FST_ERR_CTP_BODY_TOO_LARGE: () => new BodyTooLarge(),
  FST_ERR_CTP_INVALID_MEDIA_TYPE: (_, request) => new UnsupportedMediaType(request.headers['content-type'] ?? ''),
  FST_ERR_CTP_INVALID_JSON_BODY: error => new InvalidJson(error.message),
  FST_ERR_CTP_EMPTY_JSON_BODY: () => new InvalidJson('it is empty')
}

const parts: Record<string, string> = { body: 'body', params: 'path', headers: 'headers' }

function translated (error: FastifyError, request: FastifyRequest): DomainError {
  if (isDomainError(error)) return error
  if (error.validation !== undefined) return invalidInput(parts[error.validationContext ?? ''] ?? 'request', fieldErrors(error.validation as never))
  const own = fastifyErrors[error.code]
  if (own !== undefined) return own(error, request)
  if (error instanceof SyntaxError) return new InvalidJson(error.message)
  return error.statusCode !== undefined && error.statusCode < 500 ? new BadRequest(error.message) : new Internal()
}
