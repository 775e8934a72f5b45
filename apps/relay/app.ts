/** The relay: streams the events from PostgreSQL's WAL to Kafka. */
import type { FastifyInstance } from 'fastify'
import events from '@bifold/events'
import kafka from '@bifold/kafka'
import { modules } from '@bifold/modules'
import postgres from '@bifold/postgres'
import type { Config } from './config.ts'

export async function relay (app: FastifyInstance, { POSTGRES_URL, KAFKA_BROKERS, EVENTS_TOPIC, RELAY_MODE, LAG_MAX_SECONDS }: Config) {
  await app.register(postgres, { url: POSTGRES_URL, modules })
  await app.register(kafka, { brokers: KAFKA_BROKERS })
  await app.register(events, { url: POSTGRES_URL, mode: RELAY_MODE, topic: EVENTS_TOPIC, lagMaxSeconds: LAG_MAX_SECONDS })
}
