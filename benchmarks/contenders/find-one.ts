/** GetBook as it is written everywhere: one findOne for each call. */
import type { FastifyInstance } from 'fastify'
import { MongoClient } from 'mongodb'
import { status, type handleUnaryCall } from '@grpc/grpc-js'
import grpc, { grpcOf } from '@bifold/grpc'
import { booksV1 } from '@bifold/proto'
import { serviceDefinition } from '@bifold/queries/grpc'
import { serve } from '@bifold/service'
import { config } from './config.ts'

const settings = config()

async function findOne (app: FastifyInstance) {
  await app.register(grpc, { host: settings.HOST, port: settings.QUERY_GRPC_PORT })
  const client = await MongoClient.connect(settings.MONGO_URL)
  app.addHook('onClose', async () => { await client.close() })
  const books = client.db().collection<{ _id: string }>('books')
  const getBook: handleUnaryCall<booksV1.GetBookRequest, booksV1.Book> = ({ request: { id } }, reply) => {
    books.findOne({ _id: id }).then(found => {
      if (found === null) return reply({ code: status.NOT_FOUND })
      const { _id, ...book } = found
      reply(null, booksV1.Book.fromPartial({ id: _id, ...book }))
    }, reply)
  }
  grpcOf(app).server.addService(serviceDefinition(booksV1.BookQueryServiceDefinition), { getBook } as never)
}

await serve(findOne, settings, { name: 'find-one', host: settings.HOST, port: settings.PORT, logLevel: settings.LOG_LEVEL })
