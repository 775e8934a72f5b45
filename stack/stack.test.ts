/** The stack on real servers: what up, down and status promise, also after servers were killed. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { execa } from 'execa'
import { MongoClient } from 'mongodb'
import pg from 'pg'
import t from 'tap'
import { down, status, up, type Stack, type UpOptions } from './index.ts'
import { strayPids } from './processes.ts'

t.setTimeout(120_000) // Some 30 s on two free cores; other tests run beside it.

const dir = join(t.testdir(), 'Bücher') // not only ASCII: each server has its own way to read a path
const options: UpOptions = { dir, ports: 'free', renderer: 'silent', environment: {} }
t.teardown(() => down({ dir, purge: true }))

let stack: Stack

async function pids (): Promise<Record<string, number | undefined>> {
  const servers = await status({ dir })
  return Object.fromEntries(servers.flatMap(({ processes }) => processes.map(({ name, pid }) => [name, pid])))
}

async function query (sql: string): Promise<Array<Record<string, unknown>>> {
  const client = new pg.Client({ connectionString: stack.env.POSTGRES_URL })
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}

async function kafkaTool (args: string[], input = ''): Promise<string> {
  const { stdout } = await execa(process.execPath, [join(import.meta.dirname, 'kafka.ts'), ...args], {
    env: { KAFKA_BROKERS: stack.env.KAFKA_BROKERS }, input
  })
  return stdout
}

t.test('up starts three servers that answer', async t => {
  stack = await up(options)
  t.same(stack.started.toSorted(), ['kafka', 'mongo', 'postgres'])
  t.ok((await status({ dir })).every(({ answers }) => answers))
  t.match(await query('show wal_level'), [{ wal_level: 'logical' }])
  t.match(await query('show fsync'), [{ fsync: 'on' }])
})

t.test('a MongoDB transaction commits, since it is a replica set', async t => {
  const client = await MongoClient.connect(stack.env.MONGO_URL)
  t.teardown(() => client.close())
  await client.withSession(session => session.withTransaction(() => client.db().collection('tried').insertOne({ kept: true }, { session })))
  t.match(await client.db().collection('tried').findOne(), { kept: true })
})

t.test('up again adopts what runs', async t => {
  const before = await pids()
  const again = await up(options)
  t.same(again, { env: stack.env, started: [] })
  t.same(await pids(), before)
})

t.test('Kafka\'s own tools create, list, produce and consume', async t => {
  await kafkaTool(['topics', '--create', '--topic', 'exam-topic'])
  t.match(await kafkaTool(['topics', '--list']), 'exam-topic')
  await kafkaTool(['produce', '--topic', 'exam-topic'], 'first\nsecond\n')
  const consumed = await kafkaTool(['consume', '--topic', 'exam-topic', '--from-beginning', '--max-messages', '2'])
  t.same(consumed.split('\n').toSorted(), ['first', 'second'])
})

t.test('up starts killed servers again, on their data and ports', async t => {
  await query('create table kept (id int)')
  const before = await pids()
  process.kill(before.postgres!, 'SIGKILL')
  process.kill(before['kafka-0']!, 'SIGKILL')
  const again = await up(options)
  t.same(again.started.toSorted(), ['kafka', 'postgres'])
  t.same(again.env, stack.env)
  t.equal((await pids()).mongo, before.mongo)
  t.match(await query('select count(*)::int from kept'), [{ count: 0 }])
})

t.test('a server that no pid file names is stopped before another is started on its data', async t => {
  const { mongo } = await pids()
  await rm(join(dir, 'pids/mongo.pid'))
  await up(options)
  t.same(await strayPids([join(dir, 'data/mongo')]), [(await pids()).mongo])
  t.not((await pids()).mongo, mongo)
})

t.test('a server named in the environment is not started, and its address is passed on', async t => {
  const other = join(t.testdir(), 'given')
  t.teardown(() => down({ dir: other, purge: true }))
  const given = await up({ ...options, dir: other, environment: { ...stack.env } })
  t.same(given, { env: stack.env, started: [] })
})

t.test('a port that is taken is told with its holder and what to do', async t => {
  const holder = createServer().on('error', () => {}) // A stack that runs beside the tests holds the port as well.
  holder.listen(5432, '127.0.0.1')
  t.teardown(() => holder.close())
  const other = join(t.testdir(), 'other')
  t.teardown(() => down({ dir: other, purge: true }))
  await t.rejects(up({ ...options, dir: other, ports: 'default' }), { name: 'StackError', message: /Port 5432.*process.*--free-ports.*POSTGRES_URL/ })
})

t.test('down kills no process that has only the pid of a server', async t => {
  const stranger = spawn('sleep', ['60'])
  t.teardown(() => stranger.kill())
  await once(stranger, 'spawn')
  const { mongo } = await pids()
  await writeFile(join(dir, 'pids/mongo.pid'), `${stranger.pid}\nsome other time\n`)
  await down({ dir })
  t.equal(stranger.exitCode, null)
  t.equal(stranger.signalCode, null)
  t.throws(() => process.kill(mongo!, 0), { code: 'ESRCH' }, 'the real one was found by its data folder')
})

t.test('down leaves no process, and with purge no data', async t => {
  t.ok(Object.values(await pids()).every(pid => pid === undefined))
  t.notOk((await status({ dir })).some(({ answers }) => answers))
  await down({ dir, purge: true })
  await t.rejects(execa('ls', [dir]))
})
