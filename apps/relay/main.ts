/** Runs the relay as one process: a stream in commit order has one reader, whatever WORKERS says; a second relay is a standby. */
import { serve } from '@bifold/service'
import { relay } from './app.ts'
import { config } from './config.ts'

const settings = config()
await serve(relay, settings, { name: 'relay', host: settings.HOST, port: settings.RELAY_PORT, logLevel: settings.LOG_LEVEL, workers: settings.WORKERS, alone: true })
