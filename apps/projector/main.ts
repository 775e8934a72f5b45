/** Runs the projector as a process. */
import { serve } from '@bifold/service'
import { projector } from './app.ts'
import { config } from './config.ts'

const settings = config()
await serve(projector, settings, { name: 'projector', host: settings.HOST, port: settings.PROJECTOR_PORT, logLevel: settings.LOG_LEVEL, workers: settings.WORKERS })
