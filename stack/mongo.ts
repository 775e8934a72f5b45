/** The stack's MongoDB, a replica set of one member: its binary, the command that runs it, and whether it answers. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { MongoClient, MongoServerError, type Db } from 'mongodb'
import { mongoBinary, onPath } from './sources.ts'
import { StackError, type Server } from './server.ts'
import { defaultPorts, mongoReplicaSet, versions } from './settings.ts'

const answerWaitMs = 3000 // As for PostgreSQL: a busy machine's worst, not a network's.
const NOT_YET_INITIALIZED = 94 // MongoDB's code for a member that has no replica set yet.

const settings = [
  '--replSet', mongoReplicaSet,
  '--bind_ip', '127.0.0.1',
  '--quiet', // Without a line for each connection.
  '--nounixsocket', // Its default place, /tmp, may hold another user's socket of that name.
  '--wiredTigerCacheSizeGB', '2', // The default, half of the memory, would leave too little for the other servers.
  '--oplogSize', '1024', // In MB; the default is 5 % of the disk. Nothing reads the oplog of a single member for long.
  '--setParameter', 'diagnosticDataCollectionEnabled=false', // It samples every second, for a support nobody calls here.
  '--setParameter', 'shutdownTimeoutMillisForSignaledShutdown=100' // Not 15 s: there is no other member to hand over to.
]

export const mongo: Server = {
  name: 'mongo',
  title: 'MongoDB',
  variable: 'MONGO_URL',
  stopSignal: 'SIGTERM',
  members: () => ['mongo'],
  defaultPorts: () => [defaultPorts.mongo],
  url: ([port]) => `mongodb://127.0.0.1:${port}/bifold?replicaSet=${mongoReplicaSet}`,

  async find (say) {
    const own = await onPath('mongod', versions.mongo.split('.')[0]!)
    const binary = own?.path ?? await mongoBinary(say)
    if (!own) await checkRuns(binary)
    return {
      source: own ? 'PATH' : 'pip',
      version: own?.version ?? versions.mongo,
      async programs (folder, [port]) {
        const data = join(folder.data, 'mongo')
        await mkdir(data, { recursive: true })
        return [{ name: 'mongo', command: binary, args: ['--dbpath', data, '--port', String(port), ...settings] }]
      }
    }
  },

  async prepare (url) {
    const { host } = new URL(url)
    await withDatabase(`mongodb://${host}/?directConnection=true`, async admin => {
      const members = [{ _id: 0, host }]
      const config = await currentConfig(admin)
      if (!config) {
        await admin.command({ replSetInitiate: { _id: mongoReplicaSet, members } })
      } else if (config.members[0]?.host !== host) {
        // It listens on another port than before, so it does not find itself in its own configuration.
        await admin.command({ replSetReconfig: { ...config, version: config.version + 1, members }, force: true })
      }
    })
    // A majority write shows that the set has a primary; a note in the oplog is one that leaves no collection behind.
    await withDatabase(url, admin => admin.command({ appendOplogNote: 1, data: { stack: 'ready' }, writeConcern: { w: 'majority' } }))
  },

  async answers (url) {
    await withDatabase(url, admin => admin.command({ ping: 1 }))
  }
}

interface ReplicaSetConfig { version: number, members: Array<{ host: string }> }

async function currentConfig (admin: Db): Promise<ReplicaSetConfig | undefined> {
  try {
    return (await admin.command({ replSetGetConfig: 1 })).config as ReplicaSetConfig
  } catch (error) {
    if (error instanceof MongoServerError && error.code === NOT_YET_INITIALIZED) return undefined
    throw error
  }
}

async function withDatabase (url: string, work: (admin: Db) => Promise<unknown>): Promise<void> {
  const client = new MongoClient(url, { serverSelectionTimeoutMS: answerWaitMs, connectTimeoutMS: answerWaitMs, socketTimeoutMS: answerWaitMs })
  try {
    await work(client.db('admin'))
  } finally {
    await client.close()
  }
}

async function checkRuns (binary: string): Promise<void> {
  const { exitCode, stderr } = await execa(binary, ['--version'], { reject: false })
  if (exitCode === 0) return
  throw new StackError(`MongoDB from pip does not run here (${stderr?.trim().split('\n').at(-1)}): it needs OpenSSL 3 and libcurl 4 ("apt-get install libssl3 libcurl4"). Or put mongod ${versions.mongo} on the PATH, start Docker, or set MONGO_URL.`)
}
