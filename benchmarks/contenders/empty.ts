/** POST /books that is validated like the gateway's and then answered with nothing done: what HTTP itself costs, and so the ceiling of every write. */
import type { FastifyInstance } from 'fastify'
import { clean } from '@bifold/commands/clean'
import { newId } from '@bifold/commands/ids'
import { compiler } from '@bifold/cqrs'
import { modules } from '@bifold/modules'
import { serve } from '@bifold/service'
import { config } from './config.ts'

async function empty (app: FastifyInstance) {
  const [{ commands, formats }] = modules as [typeof modules[number]]
  const compile = compiler(formats)
  const { method, url, input } = commands['addBook']!
  app.route({
    method,
    url,
    schema: { body: input },
    validatorCompiler: ({ schema }) => compile(schema as object),
    preValidation: async request => { request.body = clean(request.body) },
    handler: async (_, reply) => reply.code(201).send({ id: newId(), version: 1 })
  })
}

const settings = config()
await serve(empty, settings, { name: 'empty', host: settings.HOST, port: settings.PORT, logLevel: settings.LOG_LEVEL })
