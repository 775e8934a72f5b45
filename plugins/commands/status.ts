/** The route that tells what became of a command that was put into the queue. */
import { Type } from 'typebox'
import type { RouteOptions } from 'fastify'
import { Problem, responses } from '@bifold/openapi'
import { preferences } from './prefer.ts'
import type { Queue } from './queue.ts'

const Status = Type.Object({
  id: Type.String(),
  status: Type.Enum(['queued', 'succeeded', 'refused']),
  result: Type.Optional(Type.Object({ id: Type.String({ format: 'uuid' }), version: Type.Integer(), consistencyToken: Type.String() })),
  problem: Type.Optional(Problem)
})

export const statusRoute = (queue: Queue): RouteOptions => ({
  method: 'GET',
  url: '/commands/:id',
  schema: {
    operationId: 'getCommand',
    summary: 'What became of a command that was sent with Prefer: respond-async',
    description: 'Kept for a day. With `Prefer: wait=10` the answer waits so many seconds, 30 at most, for the command to be done.',
    tags: ['commands'],
    params: Type.Object({ id: Type.String({ maxLength: 100 }) }),
    headers: Type.Object({ prefer: Type.Optional(Type.String({ maxLength: 200, examples: ['wait=10'] })) }),
    response: responses(200, 'As far as it is', Status, { 400: 'The request is wrong', 404: 'There is no such command, or it was done more than a day ago', 503: 'PostgreSQL is away, or Kafka, which knows whether it waits' })
  },
  handler: async (request, reply) => {
    const { waitMs } = preferences(request)
    const found = await queue.status((request.params as { id: string }).id, waitMs)
    reply.header('cache-control', 'no-store')
    if (found.status === 'queued') reply.header('retry-after', '1')
    return found
  }
})
