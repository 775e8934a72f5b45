/** The settings of the contenders. */
import { Type } from 'typebox'
import { loadConfig, setting } from '@bifold/service'

export const config = () => loadConfig({
  POSTGRES_URL: setting.postgres('The same database as the gateway has'),
  MONGO_URL: setting.mongo('The same read models as the query service has'),
  PORT: setting.port(0),
  QUERY_GRPC_PORT: setting.port(0),
  STORAGE: Type.Enum(['one table', 'joined'], { default: 'one table' })
})
