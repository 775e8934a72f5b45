/** What every app is made with: boot, settings, health, metrics, background work. */
export { aborted, backgroundOf, type Background, type Work } from './background.ts'
export { loadConfig, setting } from './config.ts'
export { drainOf, type Drain } from './drain.ts'
export { healthOf, reason, within, type Health } from './health.ts'
export { keepRunning } from './keep-running.ts'
export { metricsOf } from './metrics.ts'
export { build, serve, type App, type Listen } from './serve.ts'
export { closeAll, given, handed, hold, type Sharing, type Sockets } from './sharing.ts'
