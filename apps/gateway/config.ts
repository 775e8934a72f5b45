/** The settings of the gateway. */
import { loadConfig, setting } from '@bifold/service'

export const config = () => loadConfig({
  POSTGRES_URL: setting.postgres('Where the commands are committed'),
  KAFKA_BROKERS: setting.brokers('Where commands wait that need not be answered at once'),
  EVENTS_TOPIC: setting.topic(),
  GATEWAY_PORT: setting.port(3000),
  TOKEN_SECRET: setting.tokenSecret()
})

export type Config = ReturnType<typeof config>
