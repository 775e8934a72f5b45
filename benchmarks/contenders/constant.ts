/** GetBook answered with a constant: what gRPC itself costs, and so the ceiling of every read. */
import type { FastifyInstance } from 'fastify'
import grpc, { grpcOf } from '@bifold/grpc'
import { booksV1 } from '@bifold/proto'
import { serviceDefinition } from '@bifold/queries/grpc'
import { serve } from '@bifold/service'
import { sample } from '../books.ts'
import { config } from './config.ts'

async function constant (app: FastifyInstance) {
  const { QUERY_GRPC_PORT } = settings
  await app.register(grpc, { host: settings.HOST, port: QUERY_GRPC_PORT })
  const [book] = sample(1)
  const answer = booksV1.Book.fromPartial({ id: '01a2073d-f148-7572-bf54-08d1c6ec42ec', version: 1, ...book })
  grpcOf(app).server.addService(serviceDefinition(booksV1.BookQueryServiceDefinition), { getBook: (_: unknown, reply: (error: null, book: booksV1.Book) => void) => reply(null, answer) } as never)
}

const settings = config()
await serve(constant, settings, { name: 'constant', host: settings.HOST, port: settings.PORT, logLevel: settings.LOG_LEVEL })
