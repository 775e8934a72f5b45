/** The gateway: takes commands over HTTP and commits them to PostgreSQL. */
import type { FastifyInstance } from 'fastify'
import commands from '@bifold/commands'
import processes from '@bifold/commands/processes'
import kafka from '@bifold/kafka'
import { modules } from '@bifold/modules'
import openapi from '@bifold/openapi'
import postgres from '@bifold/postgres'
import type { Config } from './config.ts'

export async function gateway (app: FastifyInstance, { POSTGRES_URL, KAFKA_BROKERS, EVENTS_TOPIC, TOKEN_SECRET }: Config) {
  await app.register(openapi, { title: 'Bifold commands', description: 'The command side: what is answered with 2xx is committed.' })
  await app.register(postgres, { url: POSTGRES_URL, modules })
  await app.register(kafka, { brokers: KAFKA_BROKERS, beside: true })
  await app.register(commands, { modules, tokenSecret: TOKEN_SECRET, queue: { topic: EVENTS_TOPIC } })
  await app.register(processes, { modules })
}
