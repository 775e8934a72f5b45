/** The query service: answers from the read models, over gRPC and HTTP. */
import type { FastifyInstance } from 'fastify'
import grpc from '@bifold/grpc'
import { modules } from '@bifold/modules'
import mongo from '@bifold/mongo'
import openapi from '@bifold/openapi'
import queries from '@bifold/queries'
import { given } from '@bifold/service'
import type { Config } from './config.ts'

export async function query (app: FastifyInstance, { HOST, MONGO_URL, QUERY_GRPC_PORT, TOKEN_SECRET, ...sharing }: Config) {
  await app.register(openapi, { title: 'Bifold queries', description: 'The query side: the JSON of what gRPC answers.' })
  await app.register(mongo, { url: MONGO_URL })
  await app.register(grpc, { host: HOST, port: QUERY_GRPC_PORT, ...given(sharing, 'grpc') })
  await app.register(queries, { modules, tokenSecret: TOKEN_SECRET })
}
