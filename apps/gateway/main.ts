/** Runs the gateway as a process. */
import { serve } from '@bifold/service'
import { gateway } from './app.ts'
import { config } from './config.ts'

const settings = config()
await serve(gateway, settings, { name: 'gateway', host: settings.HOST, port: settings.GATEWAY_PORT, logLevel: settings.LOG_LEVEL, workers: settings.WORKERS })
