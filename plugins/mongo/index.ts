/** MongoDB: decorates `mongo`, the database that the URL names. */
import fp from 'fastify-plugin'
import { MongoClient, type Db as MongoDb } from 'mongodb'
import type { FastifyInstance } from 'fastify'
import { healthOf } from '@bifold/service'

export { isOutage } from './outage.ts'

export interface MongoOptions { url: string, connectionsMax?: number }

const selectMs = 2000 // a primary is found within, or the server is away
const connectionsMax = 20 // a transaction for each of 6 partitions, or the reads in flight

export default fp<MongoOptions>(async (app, { url, connectionsMax: max = connectionsMax }) => {
  const client = connect(url, max)
  app.decorate('mongo', client.db())
  app.decorate('mongoApart', (connections: number): MongoDb => {
    const own = connect(url, connections)
    app.addHook('onClose', async () => { await own.close() })
    return own.db()
  })
  healthOf(app).add('mongo', async () => { await client.db().command({ ping: 1 }) })
  app.addHook('onClose', async () => { await client.close() })
}, { name: 'mongo', dependencies: ['health'] })

/** The same database over connections that nobody else takes; closed with the app. To be asked for while the app boots. */
export const mongoApartOf = (app: FastifyInstance): (connections: number) => MongoDb => app.getDecorator('mongoApart')

export const mongoOf = (app: FastifyInstance): MongoDb => app.getDecorator<MongoDb>('mongo')

/** A client that connects at its first command; what it writes is on a majority's disks (journalled: the fast way too, see docs/decisions). */
export function connect (url: string, maxPoolSize = connectionsMax): MongoClient {
  return new MongoClient(url, { appName: 'bifold', maxPoolSize, serverSelectionTimeoutMS: selectMs, writeConcern: { w: 'majority' }, readConcern: { level: 'majority' }, ignoreUndefined: true })
}
