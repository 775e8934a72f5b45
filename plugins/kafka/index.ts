/** Kafka: decorates `kafka`, a kafkajs client, and makes the topic of the events. */
import './kafkajs.ts' // before kafkajs
import net from 'node:net'
import fp from 'fastify-plugin'
import pRetry from 'p-retry'
import kafkajs, { type Admin, type ISocketFactory, type Kafka } from 'kafkajs'
import type { FastifyInstance, FastifyBaseLogger } from 'fastify'
import { healthOf } from '@bifold/service'

export { makeBehind } from './behind.ts'
export { consume, type ConsumeOptions } from './consume.ts'
export { fencedId } from './fence.ts'
export type { Held, RawMessage, Track } from './lane.ts'
export { makeLanes, Outdated } from './lanes.ts'
export { partitionOf } from './partitions.ts'
export { sendAll } from './send.ts'
export { topicIdOf } from './topic-id.ts'

/** `beside`: the app goes on without Kafka, whose absence does not make it unready. */
export interface KafkaOptions { brokers: string, beside?: boolean }

const connectMs = 3000
const requestMs = 30_000 // a broker that takes over the leadership of a partition answers within
const againMs = { initialRetryTime: 100, maxRetryTime: 1000 } // kafkajs would double its pauses up to 30 s: a broker that is back would be waited for in vain
const healthAgeMs = 1000 // health and metrics may ask many times a second, Kafka is asked once

export default fp<KafkaOptions>(async (app, { brokers, beside = false }) => {
  const kafka = connect(brokers, app.log)
  const admin = kafka.admin({ retry: { retries: 0 } }) // the caller tries again
  app.decorate('kafka', kafka)
  app.decorate('kafkaGuarded', (guard: () => boolean) => connect(brokers, app.log, guard))
  let connected: Promise<void> | undefined
  const adminOf = async () => {
    connected ??= admin.connect()
    await connected.catch(error => {
      connected = undefined
      throw error
    })
    return admin
  }
  app.decorate('kafkaAdmin', adminOf)
  if (!beside) healthOf(app).add('kafka', freshly(healthAgeMs, async () => { await (await adminOf()).describeCluster() }))
  app.addHook('onClose', async () => { await admin.disconnect() })
}, { name: 'kafka', dependencies: ['health'] })

export const kafkaOf = (app: FastifyInstance): Kafka => app.getDecorator<Kafka>('kafka')

/** A client of one's own, that writes to no broker any more once the guard says no. */
export const kafkaGuardedOf = (app: FastifyInstance): (guard: () => boolean) => Kafka => app.getDecorator<(guard: () => boolean) => Kafka>('kafkaGuarded')

/** A connected admin client, shared by the app. */
export const kafkaAdminOf = (app: FastifyInstance): () => Promise<Admin> => app.getDecorator<() => Promise<Admin>>('kafkaAdmin')

/** A client whose log lines go to ours. */
export function connect (brokers: string, log: FastifyBaseLogger, guard?: () => boolean): Kafka {
  return new kafkajs.Kafka({
    clientId: 'bifold',
    brokers: brokers.split(',').map(broker => broker.trim()),
    connectionTimeout: connectMs,
    requestTimeout: requestMs,
    retry: againMs,
    ...guard === undefined ? {} : { socketFactory: guarded(guard) },
    logCreator: () => ({ namespace, level, log: { message, logger, timestamp, ...rest } }) => {
      // kafkajs calls an error what it goes on to try again: a warning here, since who called hears of what stays wrong.
      const words = { ...rest, kafkajs: namespace }
      if (level === kafkajs.logLevel.ERROR || level === kafkajs.logLevel.WARN) log.warn(words, message)
      else log.debug(words, message)
    }
  })
}

/** Sockets that ask before each write: at the last moment before the bytes leave the process. */
function guarded (guard: () => boolean): ISocketFactory {
  return ({ host, port, onConnect }) => {
    const socket = net.connect({ host, port, keepAlive: true }, onConnect)
    const write = socket.write.bind(socket) as (...args: unknown[]) => boolean
    socket.write = (...args: unknown[]) => {
      if (guard()) return write(...args)
      socket.destroy(new Error('The guard of this connection says that nothing may be written any more'))
      return false
    }
    return socket
  }
}

/** What `ask` resolved to within the last `ageMs`, else asked again; callers at the same time share one asking. */
function freshly<T> (ageMs: number, ask: () => Promise<T>): () => Promise<T> {
  let last: { at: number, answer: Promise<T> } | undefined
  return async () => {
    if (last === undefined || performance.now() - last.at > ageMs) last = { at: performance.now(), answer: ask() }
    return await last.answer
  }
}

/** Partitions of the events' topic: how many projectors may share the work. */
const partitions = 6
const replicasMax = 3 // the usual; one may fail while `min.insync.replicas` 2 still holds
const messageBytesMax = 1_048_588 // Kafka's default, which the relay's batches stay below, whatever the brokers have
const heardOf = { retries: 40, factor: 1, minTimeout: 50 } // of a new topic a broker hears within some 10 ms; on a busy machine, and by three, within a second
const retentionMs = 7 * 24 * 3600 * 1000 // a week, Kafka's default: a projector that was away for longer rebuilds from PostgreSQL

// What others send compressed is kept as it was before: kafkajs cannot read most of it, and would read nothing more.
const plain = { name: 'compression.type', value: 'uncompressed' }

/** Makes the topic if it is missing: replicated three times if there are as many brokers; its messages are kept for a week, or until somebody deletes them. */
export async function ensureTopic (admin: Admin, topic: string, { keepForEver = false } = {}): Promise<void> {
  if ((await admin.listTopics()).includes(topic)) return await keepPlain(admin, topic)
  const replicas = Math.min(replicasMax, (await admin.describeCluster()).brokers.length)
  await admin.createTopics({
    waitForLeaders: false, // kafkajs would wait for leaders, and not for a broker that has not heard of the topic yet
    topics: [{
      topic,
      numPartitions: partitions,
      replicationFactor: replicas,
      configEntries: [
        plain,
        { name: 'max.message.bytes', value: String(messageBytesMax) },
        { name: 'min.insync.replicas', value: String(Math.max(1, replicas - 1)) },
        { name: 'retention.ms', value: String(keepForEver ? -1 : retentionMs) }
      ]
    }]
  })
  await pRetry(async () => await admin.fetchTopicOffsets(topic), heardOf)
}

/** For a topic that somebody else has made. What it has been given besides is kept: Kafka takes all of it anew. */
async function keepPlain (admin: Admin, topic: string): Promise<void> {
  const resource = { type: kafkajs.ConfigResourceTypes.TOPIC, name: topic }
  try {
    const { resources: [found] } = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] })
    const given = found!.configEntries.filter(({ configSource }) => configSource === kafkajs.ConfigSource.TOPIC_CONFIG).map(({ configName: name, configValue: value }) => ({ name, value }))
    if (given.some(({ name, value }) => name === plain.name && value === plain.value)) return
    await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [...given.filter(({ name }) => name !== plain.name), plain] }] })
  } catch {
    // Who may not change the topic must take it as it is.
  }
}
