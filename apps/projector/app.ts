/** The projector: keeps the read models in MongoDB up to date with the topic. */
import type { FastifyInstance } from 'fastify'
import kafka from '@bifold/kafka'
import { modules } from '@bifold/modules'
import mongo from '@bifold/mongo'
import projections from '@bifold/projections'
import type { Config } from './config.ts'

export async function projector (app: FastifyInstance, { POSTGRES_URL, KAFKA_BROKERS, MONGO_URL, EVENTS_TOPIC, LAG_MAX_SECONDS, READ_MODELS }: Config) {
  await app.register(kafka, { brokers: KAFKA_BROKERS })
  await app.register(mongo, { url: MONGO_URL })
  await app.register(projections, { modules, url: POSTGRES_URL, topic: EVENTS_TOPIC, lagMaxSeconds: LAG_MAX_SECONDS, readModels: READ_MODELS })
}
