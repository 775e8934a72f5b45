/** Mounts a module's queries as HTTP routes that answer the JSON of the same messages. */
import { Type } from 'typebox'
import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { camelCase, invalidInput, type Module } from '@bifold/cqrs'
import { responses } from '@bifold/openapi'
import type { Answer } from './answer.ts'
import { deadlineMs, listenersMax, type Call } from './call.ts'

export const tokenHeader = {
  'consistency-token': Type.Optional(Type.String({ description: 'From the answer to a command: the read waits until it shows that command. Several are separated by commas' }))
}
const Headers = Type.Object(tokenHeader)

export const tokensOf = ({ headers }: FastifyRequest): string[] => [headers['consistency-token'] ?? []].flat()

/** The route of one query. */
export function route (name: string, module: Module, answer: Answer): RouteOptions {
  const { url, summary, input } = module.queries[name]!
  const { requestType, responseType } = module.service.methods[name]!
  const inPath = new Set([...url.matchAll(/:(\w+)$/g)].map(([, field]) => field!))
  const inQuery = Object.entries(input.properties).filter(([field]) => !inPath.has(field))
  return {
    method: 'GET',
    url: url.replace(/^(\/[^:]*[^/]):(?=\w)/, '$1::'), // a colon inside a path segment, as in /books:batchGet, is escaped by another
    schema: {
      operationId: name,
      summary,
      tags: [module.name],
      headers: Headers,
      ...inPath.size > 0 ? { params: Type.Pick(input, [...inPath]) } : {},
      querystring: Type.Partial(Type.Object(Object.fromEntries(inQuery))),
      response: responses(200, 'What the read models say', Type.Object({}, { additionalProperties: true }), {
        400: 'The request is wrong; `errors` names each field', 404: 'It does not exist', 413: 'It is more than one answer may have', 503: 'MongoDB is away, or the read model is being built', 504: 'The deadline passed, or the read model did not show within it what a Consistency-Token names'
      })
    },
    validatorCompiler: () => () => true, // the answer checks the request itself, as it does for gRPC
    handler: async (request, reply) => {
      const fields = { ...fromQuery(request.query as Record<string, unknown>, inQuery), ...request.params as object }
      const response = await answer(requestType.fromJSON(fields), { deadline: Date.now() + deadlineMs, tokens: tokensOf(request), ...presence(request, reply) })
      return responseType.toJSON(response instanceof Uint8Array ? responseType.decode(response) : response)
    }
  }
}

// `page_size` is the same field as `pageSize`, as in the JSON form of protobuf; a field that may repeat is a list, unless it is
// one text with commas, as the JSON form of a FieldMask is.
export function fromQuery (query: Record<string, unknown>, known: readonly [string, object][]): Record<string, unknown> {
  const schemas = new Map(known)
  return Object.fromEntries(Object.entries(query).flatMap(([name, value]) => {
    const field = camelCase(name)
    const schema = schemas.get(field)
    if (schema === undefined) throw invalidInput('request', [{ path: `/${name}`, message: 'is not a known field' }])
    const { type, explode = true } = schema as { type?: string, explode?: boolean }
    const isList = type === 'array' && explode
    if (Array.isArray(value) && !isList) throw invalidInput('request', [{ path: `/${name}`, message: 'must be given once' }])
    // A form's empty field says nothing; for a number it would say 0.
    if (type === 'integer' && String(value).trim() === '') return []
    return [[field, isList ? [value].flat() : value]]
  }))
}

function presence ({ raw }: FastifyRequest, reply: FastifyReply): Pick<Call, 'connection' | 'gone' | 'onEnd'> {
  return {
    connection: () => raw.socket,
    gone: () => raw.socket.destroyed || reply.raw.writableEnded,
    // Of the response, not of the socket: that one lives on, and would collect a listener for each request.
    onEnd: listener => { reply.raw.setMaxListeners(listenersMax).once('close', listener) }
  }
}
