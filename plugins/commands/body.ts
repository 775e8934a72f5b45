/** Reads the bodies of commands: JSON in UTF-8, and how many bytes each had. */
import { isUtf8 } from 'node:buffer'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { InvalidJson } from '@bifold/cqrs'

// RFC 7396's media type for the body of a PATCH is JSON too.
const mediaTypes = ['application/json', 'application/merge-patch+json']

export function takeBodies (app: FastifyInstance) {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.decorateRequest('bodyBytes', 0)
  // As bytes: read as text, what is not UTF-8 would become U+FFFD, and something else would be stored than was sent.
  app.addContentTypeParser<Buffer>(mediaTypes, { parseAs: 'buffer' }, (request, body, done) => {
    request.setDecorator('bodyBytes', body.length)
    if (isUtf8(body)) void parse(request, body.toString(), done)
    else done(new InvalidJson('it is not UTF-8'))
  })
}

export const bodyBytes = (request: FastifyRequest): number => request.getDecorator<number>('bodyBytes')
