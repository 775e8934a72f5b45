/** The settings of the projector. */
import { loadConfig, setting } from '@bifold/service'

export const config = () => loadConfig({
  KAFKA_BROKERS: setting.url('Host and port of each broker, with commas between'),
  MONGO_URL: setting.url('Where the read models are kept'),
  EVENTS_TOPIC: setting.topic(),
  PROJECTOR_PORT: setting.port(3002)
})

export type Config = ReturnType<typeof config>
