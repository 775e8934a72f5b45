/** The OpenAPI 3.1 document at /docs/json and Swagger UI at /docs, made from the routes' own schemas. */
import fp from 'fastify-plugin'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import { Type, type TSchema } from 'typebox'

export interface OpenapiOptions { title: string, description: string }

export default fp<OpenapiOptions>(async (app, { title, description }) => {
  await app.register(swagger, { openapi: { openapi: '3.1.0', info: { title, description, version: '0.1.0' } } })
  await app.register(swaggerUi, { routePrefix: '/docs' })
}, { name: 'openapi' })

/** An error's body (RFC 9457), as plugins/problem sends it. */
export const Problem = Type.Object({
  type: Type.String({ examples: ['/errors/INVALID_INPUT'] }),
  title: Type.String({ examples: ['Bad Request'] }),
  status: Type.Integer({ examples: [400] }),
  detail: Type.String(),
  instance: Type.String(),
  code: Type.String({ description: 'What to match on; docs/errors.md lists them' }),
  requestId: Type.String(),
  errors: Type.Optional(Type.Array(Type.Object({ path: Type.String({ description: 'JSON Pointer' }), message: Type.String() })))
})

/** The `response` part of a route's schema: what it answers when all is well, and problems for these statuses. */
export function responses (status: number, description: string, schema: TSchema, problems: Readonly<Record<number, string>>) {
  const problem = (description: string) => ({ description, content: { 'application/problem+json': { schema: Problem } } })
  return {
    [status]: { description, ...schema },
    ...Object.fromEntries(Object.entries(problems).map(([code, description]) => [code, problem(description)]))
  }
}
