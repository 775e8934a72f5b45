/** The settings of the relay. */
import { loadConfig, setting } from '@bifold/service'

export const config = () => loadConfig({
  POSTGRES_URL: setting.url('Whose WAL has the events'),
  KAFKA_BROKERS: setting.url('Host and port of each broker, with commas between'),
  EVENTS_TOPIC: setting.topic(),
  LAG_MAX_SECONDS: setting.lag(),
  RELAY_PORT: setting.port(3003)
})

export type Config = ReturnType<typeof config>
