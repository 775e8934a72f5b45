/** What the settings refuse: what the client libraries would not take either, and no more. */
import t from 'tap'
import { MongoClient } from 'mongodb'
import pg from 'pg'
import { loadConfig, setting } from './index.ts'

function load (variable: string, text: string, kind: ReturnType<typeof setting.brokers>): string {
  Object.assign(process.env, { BIFOLD_ENV_FILE: 'none', [variable]: text })
  return loadConfig({ [variable]: kind })[variable] as string
}

t.test('POSTGRES_URL', async t => {
  const kind = setting.postgres('The write side')
  for (const url of [
    'postgres://user:p%23w@host:5432/bifold', 'postgresql://host/bifold?sslmode=disable', 'postgres://[::1]:5432/bifold', 'postgres://user:p w@host/bifold',
    '/var/run/postgresql bifold', 'socket:/var/run/postgresql?db=bifold', 'postgres:///bifold?host=/var/run/postgresql', 'postgres://user@/bifold?host=/var/run/postgresql', 'postgres://user@%2Fvar%2Frun%2Fpostgresql/bifold'
  ]) {
    t.equal(load('POSTGRES_URL', url, kind), url)
    t.equal(new pg.Client({ connectionString: url }).database, 'bifold', 'pg takes it')
  }
  for (const url of ['postgres://user:p#w@host:5432/bifold', 'postgres://user:p/w@host:5432/bifold', 'postgres://host:port/bifold']) {
    t.throws(() => load('POSTGRES_URL', url, kind), { message: /^Settings: POSTGRES_URL must be a URL such as postgres:/ }, url)
    t.throws(() => new pg.Client({ connectionString: url }), { message: 'Invalid URL' }, 'nor does pg take it')
  }
  for (const url of ['', 'bifold', 'host:5432/bifold']) { // of these pg would make databases of a host "base", or of none
    t.throws(() => load('POSTGRES_URL', url, kind), { message: /^Settings: POSTGRES_URL must be a URL such as postgres:/ }, url)
  }
})

t.test('MONGO_URL', async t => {
  const kind = setting.mongo('The read side')
  for (const url of [
    'mongodb://host/bifold', 'mongodb://user:p%23w@host:27017/bifold', 'mongodb://one:1,two:2/bifold?replicaSet=bifold', 'mongodb://user:p,w@one:1,two,[::1]:3/bifold',
    'mongodb+srv://user:pw@host.example/bifold', 'mongodb://%2Ftmp%2Fmongodb-27017.sock/bifold'
  ]) {
    t.equal(load('MONGO_URL', url, kind), url)
    t.equal(new MongoClient(url).options.dbName, 'bifold', 'the driver takes it')
  }
  for (const url of ['mongodb://user:p#w@host/bifold', 'mongodb://user:p/w@host/bifold', 'http://host/bifold', 'host:27017', '']) {
    t.throws(() => load('MONGO_URL', url, kind), { message: /^Settings: MONGO_URL must be a URL such as mongodb:/ }, url)
    t.throws(() => new MongoClient(url), 'nor does the driver take it')
  }
})

t.test('KAFKA_BROKERS', async t => {
  const kind = setting.brokers()
  for (const brokers of ['kafka:19092', 'one_1:9092,two.example:9093', '127.0.0.1:9092, 127.0.0.2:9092']) t.equal(load('KAFKA_BROKERS', brokers, kind), brokers)
  for (const brokers of ['', 'kafka', 'kafka:port', 'kafka:9092,', 'PLAINTEXT://kafka:9092', 'one:9092 two:9092']) {
    t.throws(() => load('KAFKA_BROKERS', brokers, kind), { message: /^Settings: KAFKA_BROKERS must be hosts with their ports, such as one:9092/ }, brokers)
  }
})
