/** MongoDB: decorates `mongo`, the database that the URL names. */
import fp from 'fastify-plugin'
import { MongoClient, MongoStalePrimaryError, type Db as MongoDb, type MongoClientOptions } from 'mongodb'
import type { FastifyInstance } from 'fastify'
import { healthOf } from '@bifold/service'
import './closed.ts'

export { isOutage, isTimeUp } from './outage.ts'

export interface MongoOptions { url: string, connectionsMax?: number }

/** How our connections are called in MongoDB. */
export const appName = 'bifold'

const againMs = 200 // after a first connection that failed
const selectMs = 2000 // a primary is found within, or the server is away
const staleMs = 15_000 // a primary that another was elected after steps down within 10 s
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

/**
 * A client that gets over a server that is away when it connects first: the driver then closes its topology, and would refuse
 * every later command with "Topology is closed". And over a replica set that was made anew under the same name: the driver takes
 * its primary for one that an earlier election had, and waits for a later one for ever.
 */
class Client extends MongoClient {
  #closed = false
  #anew: NodeJS.Timeout | undefined

  constructor (url: string, options: MongoClientOptions, staleMs: number) {
    super(url, options)
    this.on('topologyClosed', () => {
      // Connecting makes a new one; if that fails too, it ends here again.
      if (!this.#closed) setTimeout(() => { if (!this.#closed) this.connect().catch(() => {}) }, againMs).unref()
    })
    this.on('topologyDescriptionChanged', ({ newDescription: { type, servers } }) => {
      const stale = type === 'ReplicaSetNoPrimary' && [...servers.values()].some(({ error }) => error instanceof MongoStalePrimaryError)
      if (stale && this.#anew !== undefined) return
      clearTimeout(this.#anew)
      this.#anew = stale ? setTimeout(() => { super.close().catch(() => {}) }, staleMs).unref() : undefined // and it is connected anew
    })
  }

  override async close (force?: boolean): Promise<void> {
    this.#closed = true
    clearTimeout(this.#anew)
    await super.close(force)
  }
}

/** A client that connects at its first command; what it writes is on a majority's disks (journalled: the fast way too, see docs/decisions). */
export function connect (url: string, maxPoolSize = connectionsMax, staleMsMax = staleMs): MongoClient {
  return new Client(url, { appName, maxPoolSize, serverSelectionTimeoutMS: selectMs, writeConcern: { w: 'majority' }, readConcern: { level: 'majority' }, ignoreUndefined: true }, staleMsMax)
}
