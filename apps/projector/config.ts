/** The settings of the projector. */
import { loadConfig, setting } from '@bifold/service'

export const config = () => loadConfig({
  POSTGRES_URL: setting.postgres('Whose event log fills read models that have nothing yet'),
  KAFKA_BROKERS: setting.brokers(),
  MONGO_URL: setting.mongo('Where the read models are kept'),
  EVENTS_TOPIC: setting.topic(),
  LAG_MAX_SECONDS: setting.lag(),
  READ_MODELS: setting.names('The read models that this projector keeps, with commas between; all, if none is named'),
  PROJECTOR_PORT: setting.port(3002)
})

export type Config = ReturnType<typeof config>
