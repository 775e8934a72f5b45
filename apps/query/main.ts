/** Runs the query as a process. */
import { serve } from '@bifold/service'
import { query } from './app.ts'
import { config } from './config.ts'

const settings = config()
await serve(query, settings, { name: 'query', host: settings.HOST, port: settings.QUERY_HTTP_PORT, grpcPort: settings.QUERY_GRPC_PORT, logLevel: settings.LOG_LEVEL, workers: settings.WORKERS })
