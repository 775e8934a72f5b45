/** The versions and settings of the three servers: what the local stack starts and what docker-compose.yml must name too. */

/** Pinned, so that two machines run the same servers. */
export const versions = {
  postgres: '18.4',
  kafka: '4.1.2',
  mongo: '6.0.5'
} as const

/** Where each server listens unless the stack is asked for free ports. */
export const defaultPorts = { postgres: 5432, kafka: 9092, mongo: 27017 } as const

/** Settings of the PostgreSQL server: lines of its configuration file. */
export const postgresSettings = {
  wal_level: 'logical', // the relay reads the events from the WAL
  fsync: 'on', // an acknowledged command survives a power cut
  synchronous_commit: 'on',
  max_connections: '200', // four apps with pools of 10 to 20, tests in parallel beside them
  max_replication_slots: '64', // one a relay; each test file has a relay of its own
  max_wal_senders: '64', // one for each slot
  max_slot_wal_keep_size: '4GB' // a relay that stays away must not fill the disk
} as const

/** Options of each Kafka broker, as lines of server.properties. */
export const kafkaSettings = {
  'auto.create.topics.enable': 'false', // a misspelt topic is an error, not a new topic
  'group.initial.rebalance.delay.ms': '0', // a local group has no late comers worth 3 s of waiting
  'broker.session.timeout.ms': '5000', // a killed broker is back after 5 s instead of 9
  'broker.heartbeat.interval.ms': '500', // ten in a session: on a busy machine one that comes late must not take the leadership of all partitions away
  'offsets.topic.num.partitions': '6', // a handful of groups; the usual 50 take seconds to make, and again when the broker is back
  'num.partitions': '6',
  'transaction.state.log.num.partitions': '1', // only relays have transactional ids; the usual 50 take seconds to make at the first start
  'log.retention.hours': '168'
} as const

/** What replication costs and gives, by the number of brokers. */
export const replication = {
  1: { 'default.replication.factor': '1', 'min.insync.replicas': '1' },
  3: { 'default.replication.factor': '3', 'min.insync.replicas': '2' } // one broker may die, no acknowledged message with it
} as const

/** The replica set's name; transactions and change streams need one, even of a single member. */
export const mongoReplicaSet = 'bifold'
