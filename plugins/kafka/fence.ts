/**
 * Fences a producer: once a new one with the same id is connected, nothing of an older one is written any more, not even what
 * that had sent and the broker had not read yet. Kafka's own fence (KIP-98) holds only within transactions, which would cost each
 * send two round trips. So there is one transaction when a producer connects, of nothing: its markers carry the new epoch into
 * each partition, and from then on a partition refuses messages of an older epoch, in a transaction or not.
 */

interface Cluster {
  addTargetTopic (topic: string): Promise<void>
  findTopicPartitionMetadata (topic: string): readonly { readonly partitionId: number }[]
}

interface EosOptions { readonly transactional: boolean, readonly transactionalId?: string, readonly cluster: Cluster }

interface EosManager {
  initProducerId (): Promise<void>
  beginTransaction (): void
  addPartitionsToTransaction (topics: readonly { topic: string, partitions: readonly { partition: number }[] }[]): Promise<void>
  commit (): Promise<void>
  isTransactional (): boolean
  readonly fenced?: boolean
}

type MakeEosManager = (options: EosOptions) => EosManager

const prefix = 'bifold-fenced:'

/** The transactional id of the one producer of a topic; fenced when it connects. */
export const fencedId = (topic: string): string => `${prefix}${topic}`

/** Wraps what kafkajs keeps a producer's id and sequences with; a producer whose id is a `fencedId` is fenced, and sends as any other. */
export const fencing = (make: MakeEosManager): MakeEosManager => options => {
  const { transactional, transactionalId, cluster } = options
  if (transactional || transactionalId?.startsWith(prefix) !== true) return make(options)
  const topic = transactionalId.slice(prefix.length)
  const manager = make({ ...options, transactional: true })
  const begin = async () => await manager.initProducerId()
  return Object.assign(Object.create(manager) as EosManager, {
    fenced: true,
    isTransactional: () => false,
    async initProducerId () {
      await begin()
      await cluster.addTargetTopic(topic)
      manager.beginTransaction()
      await manager.addPartitionsToTransaction([{ topic, partitions: cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => ({ partition: partitionId })) }])
      await manager.commit()
      // Answered only when the markers are written.
      await begin()
    }
  })
}

type Attempt = (bail: (error: Error) => void, count: number, time: number) => Promise<unknown>
interface SendOptions { readonly eosManager: EosManager, readonly retrier: (attempt: Attempt) => Promise<unknown> }
type MakeSend = (options: SendOptions) => unknown

const once: SendOptions['retrier'] = async attempt => await attempt(error => { throw error }, 0, 0)

/**
 * Wraps kafkajs's send: a fenced producer sends once. When one broker fails, kafkajs sends again what others have not answered
 * yet, with new sequence numbers: it is written twice. Who is fenced begins anew instead, and looks what is there.
 */
export const sendingOnce = (make: MakeSend): MakeSend => options => make(options.eosManager.fenced === true ? { ...options, retrier: once } : options)

interface Message { readonly offset: string, readonly timestamp: string }
interface Batch { readonly messages: Message[], readonly messagesWithinOffset: readonly Message[] }
type BatchClass = new (...args: never[]) => Batch

/**
 * Wraps kafkajs's batch: what it leaves out at its end, a marker or what a stranger's transaction has given up, is handed on as a
 * marker, so that a reader knows the place behind it. (kafkajs passes over it, and tells nobody.)
 */
export const showingMarkers = (Base: BatchClass): BatchClass => class extends Base {
  constructor (...args: never[]) {
    super(...args)
    const last = this.messagesWithinOffset.at(-1)
    if (last === undefined || last === this.messages.at(-1)) return
    const { offset, timestamp } = last
    this.messages.push({ offset, timestamp, key: null, value: null, headers: {}, isControlRecord: true } as Message)
  }
}
