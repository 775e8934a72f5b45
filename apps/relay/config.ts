/** The settings of the relay. */
import { Type } from 'typebox'
import { loadConfig, setting } from '@bifold/service'

export const config = () => loadConfig({
  POSTGRES_URL: setting.postgres('Whose WAL has the events'),
  KAFKA_BROKERS: setting.brokers(),
  EVENTS_TOPIC: setting.topic(),
  RELAY_MODE: Type.Enum(['wal', 'polling'], { default: 'wal', description: 'How events are read: from the WAL, or by asking for them, where there is no logical replication' }),
  LAG_MAX_SECONDS: setting.lag(),
  RELAY_PORT: setting.port(3003)
})

export type Config = ReturnType<typeof config>
