/** The gateway with one transaction for each command, as commands are committed everywhere: as many at once as the pool has connections. */
import type { FastifyInstance } from 'fastify'
import commands from '@bifold/commands'
import { modules } from '@bifold/modules'
import openapi from '@bifold/openapi'
import postgres from '@bifold/postgres'
import { serve } from '@bifold/service'
import { config } from './config.ts'

const transactionsMax = 20 // more at once were slower on two cores

async function oneByOne (app: FastifyInstance) {
  await app.register(openapi, { title: 'One by one', description: '' })
  await app.register(postgres, { url: settings.POSTGRES_URL, modules, connectionsMax: transactionsMax + 2 })
  await app.register(commands, { modules, limits: { groupSizeMax: 1, groupsMax: transactionsMax, queueMax: 10_000 } })
}

const settings = config()
await serve(oneByOne, settings, { name: 'one-by-one', host: settings.HOST, port: settings.PORT, logLevel: settings.LOG_LEVEL })
