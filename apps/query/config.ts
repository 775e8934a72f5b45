/** The settings of the query. */
import { loadConfig, setting } from '@bifold/service'

export const config = () => loadConfig({
  MONGO_URL: setting.mongo('Where the read models are kept'),
  QUERY_HTTP_PORT: setting.port(3001),
  QUERY_GRPC_PORT: setting.port(50051),
  TOKEN_SECRET: setting.tokenSecret()
})

export type Config = ReturnType<typeof config>
