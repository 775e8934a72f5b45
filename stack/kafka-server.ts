/** The stack's Kafka, one broker or three, in KRaft mode: its jars, data folders, the commands that run it, and whether it answers. */
import { mkdir, readdir, realpath, rename, rm, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { execa } from 'execa'
import { Kafka, logLevel } from 'kafkajs'
import { classPath, exists, findJava, kafkaJars } from './sources.ts'
import { StackError, type Program, type Say, type Server } from './server.ts'
import { defaultPorts, kafkaSettings, replication, versions } from './settings.ts'

// 16 bytes in base64, as Kafka wants it. Any would do: brokers of one cluster must agree on it.
const clusterId = Buffer.from('bifold-localhost').toString('base64url')
const controllerPort = 19092 // Far from the brokers' 9092 to 9094; clients never use it.
const answerWaitMs = 3000 // As for PostgreSQL.

// Java takes paths to be in the locale's encoding: in the plain C locale it finds none with other letters than ASCII's.
const locale = { LC_ALL: 'C.UTF-8' }

// The optimising compiler and the collector's threads want cores of their own, which the other servers and the apps do not leave them (docs/decisions/0026-local-kafka.md).
const modestJava = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC']

const brokerOptions = [
  '-Xms128m', '-Xmx512m', // The default of 1 GB is for a machine of its own; three brokers must fit beside the rest. Data is cached by the kernel.
  ...modestJava
]

export const kafka: Server = {
  name: 'kafka',
  title: 'Kafka',
  variable: 'KAFKA_BROKERS',
  stopSignal: 'SIGTERM',
  members: brokers => range(brokers).map(id => `kafka-${id}`),
  defaultPorts: brokers => [...range(brokers).map(id => defaultPorts.kafka + id), ...range(brokers).map(id => controllerPort + id)],
  url: (ports, brokers) => ports.slice(0, brokers).map(port => `127.0.0.1:${port}`).join(','),

  async find (say) {
    const { source, version, java: command, path } = await kafkaSoftware(say)
    return {
      source,
      version,
      async programs (folder, ports) {
        const brokers = ports.length / 2
        const java = (data: string, options: string[], ...program: string[]) => [`-Dbifold.data=${data}`, ...options, '-cp', path, ...program]
        return await Promise.all(range(brokers).map(async (id): Promise<Program> => {
          const data = join(folder.data, `kafka-${id}`)
          const file = join(folder.data, `kafka-${id}.properties`)
          if (!await exists(data)) {
            say('formatting its data folder')
            await format(data, properties(id, ports), (partial, args) => execa(command, java(partial, tool('WARN'), 'kafka.tools.StorageTool', ...args), { env: locale }))
          }
          await writeFile(file, properties(id, ports)(data))
          return { name: `kafka-${id}`, command, args: java(data, [...brokerOptions, ...logging('INFO')], 'kafka.Kafka', file), env: locale }
        }))
      }
    }
  },

  /** Nothing to make: topics are the applications' own. */
  async prepare () {},

  async answers (url, brokers) {
    const addresses = url.split(',')
    // The others go on naming a killed broker for some seconds, so each is asked; of a managed cluster any may answer.
    if (brokers === 0) await askCluster(addresses, 1)
    else await Promise.all(addresses.map(address => askCluster([address], brokers)))
  }
}

async function askCluster (addresses: string[], brokers: number): Promise<void> {
  const client = new Kafka({
    brokers: addresses,
    connectionTimeout: answerWaitMs,
    requestTimeout: answerWaitMs,
    retry: { retries: 0 }, // The caller tries again.
    logLevel: logLevel.NOTHING
  })
  const admin = client.admin()
  try {
    await admin.connect()
    const cluster = await admin.describeCluster()
    if (cluster.brokers.length < brokers || cluster.controller === null) {
      throw new Error(`${cluster.brokers.length} of ${brokers} brokers have joined`)
    }
  } finally {
    await admin.disconnect()
  }
}

/** Runs one of Kafka's own tools in this terminal's place, and gives its exit code. */
export async function runTool (className: string, args: string[], say: Say): Promise<number> {
  const { java, path } = await kafkaSoftware(say)
  // Ctrl-C reaches the tool itself, which ends cleanly; this process only waits for it.
  process.on('SIGINT', () => {})
  const { exitCode } = await execa(java, [...tool('ERROR'), '-cp', path, className, ...args], { stdio: 'inherit', reject: false })
  return exitCode ?? 1
}

async function kafkaSoftware (say: Say): Promise<{ source: string, version: string, java: string, path: string }> {
  const java = await findJava(say)
  const own = await jarsOnPath()
  if (own) return { source: 'PATH', version: own.version, java, path: await classPath(own.libs) }
  return { source: 'Maven', version: versions.kafka, java, path: await classPath(await kafkaJars(java, say)) }
}

/** A Kafka of the same major version whose start script is on the PATH: its jars are beside it. */
async function jarsOnPath (): Promise<{ libs: string, version: string } | undefined> {
  const major = versions.kafka.split('.')[0]
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    for (const name of ['kafka-server-start.sh', 'kafka-server-start']) {
      const script = await realpath(join(folder, name)).catch(() => undefined)
      if (!script) continue
      for (const libs of [join(script, '../../libs'), join(script, '../../libexec/libs')]) {
        const jars = await readdir(libs).catch(() => [])
        const version = /kafka_2\.13-([\d.]+)\.jar/.exec(jars.join(' '))?.[1]
        if (version && version.split('.')[0] === major) return { libs, version }
      }
    }
  }
  return undefined
}

/** A broker's server.properties, but for the folder: it is formatted under another name than it is used. */
export function properties (id: number, ports: number[]): (data: string) => string {
  const brokers = ports.length / 2 as 1 | 3
  const [port, controller] = [ports[id], ports[brokers + id]]
  const { 'default.replication.factor': factor, 'min.insync.replicas': insync } = replication[brokers]
  return data => Object.entries({
    'process.roles': 'broker,controller',
    'node.id': id,
    'controller.quorum.voters': range(brokers).map(voter => `${voter}@127.0.0.1:${ports[brokers + voter]}`).join(','),
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}`,
    'controller.listener.names': 'CONTROLLER',
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'log.dirs': data,
    // A broker that stops asks the controllers first to move its leaders away; the last ones of a cluster that stops as a
    // whole have no majority of controllers left to ask, and would wait 5 minutes.
    'controlled.shutdown.enable': brokers === 1,
    // Kafka's internal topics keep to the cluster's size, too: their own default is 3.
    'offsets.topic.replication.factor': factor,
    'transaction.state.log.replication.factor': factor,
    'transaction.state.log.min.isr': insync,
    'share.coordinator.state.topic.replication.factor': factor,
    'share.coordinator.state.topic.min.isr': insync,
    ...kafkaSettings,
    ...replication[brokers]
  }).map(([name, value]) => `${name}=${escaped(String(value))}\n`).join('')
}

/** Java reads such a file as ISO-8859-1, and takes a backslash for the beginning of an escape. */
function escaped (value: string): string {
  return value.replaceAll('\\', '\\\\').replace(/[^\x20-\x7e]/g, unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** Formats a data folder under another name, and gives it its own last, so that half of one is never used. */
async function format (data: string, propertiesOf: (data: string) => string, storageTool: (data: string, args: string[]) => Promise<unknown>): Promise<void> {
  const partial = `${data}.partial`
  const file = `${partial}.properties`
  await rm(partial, { recursive: true, force: true })
  await mkdir(partial)
  await writeFile(file, propertiesOf(partial))
  try {
    await storageTool(partial, ['format', '--cluster-id', clusterId, '--config', file])
  } catch (error) {
    throw new StackError(`Kafka could not format ${data}: ${(error as { stderr?: string }).stderr ?? error}`, { cause: error })
  }
  await rename(partial, data)
  await rm(file)
}

function tool (level: 'WARN' | 'ERROR'): string[] {
  return ['-Xmx256m', ...modestJava, ...logging(level)]
}

function logging (level: 'INFO' | 'WARN' | 'ERROR'): string[] {
  return [`-Dlog4j2.configurationFile=${join(import.meta.dirname, 'log4j2.properties')}`, `-Dbifold.log=${level}`]
}

function range (length: number): number[] {
  return Array.from({ length }, (_, index) => index)
}
