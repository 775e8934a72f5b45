/** Runs the relay as a process. */
import { serve } from '@bifold/service'
import { relay } from './app.ts'
import { config } from './config.ts'

const settings = config()
await serve(relay, settings, { name: 'relay', host: settings.HOST, port: settings.RELAY_PORT, logLevel: settings.LOG_LEVEL })
