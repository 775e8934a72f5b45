/** A set of apps on one machine, so many processes of each: started, resized and stopped, behind the same addresses. */
import getPort from 'get-port'
import { aborted, closeAll, hold, type Sockets } from '@bifold/service'
import { appNames, NotReadyError, runApp, untilReady, type AppName, type RunningApp } from './apps.ts'
import { addressOf, ownPorts, type Ports } from './ports.ts'

/** How many processes of each app. */
export type Counts = Readonly<Record<AppName, number>>

/** One process of an app, with the address at which it alone tells how it is. */
export interface Instance { readonly app: AppName, readonly number: number, readonly url: string, kill (signal?: NodeJS.Signals): void }

export interface Fleet {
  readonly instances: readonly Instance[]
  /**
   * Starts and stops processes until there are so many; resolves when those that were started are ready, or, with `ready` false, run. One call at a time.
   *
   * @throws NotReadyError if all of them answer, but some are not ready in time; they run on
   */
  resize (counts: Partial<Counts>, options?: { ready?: boolean }): Promise<void>
  stop (): Promise<void>
}

export interface FleetOptions {
  readonly host: string
  readonly ports: Ports
  readonly env: Record<string, string>
  readonly logFolder: string
  /** Told in words what happens. */
  readonly say: (sentence: string) => void
  /** Other programs in the place of the apps' own. */
  readonly mains?: Partial<Record<AppName, string>>
  /** How long a process may take to be ready before its reason is told. */
  readonly readyMs?: number
  /** The longest pause before a process that has ended is started again. */
  readonly pauseMsMax?: number
}

export const instancesMax = 16 // of an app: each gateway takes some 10 of the 200 connections that the local PostgreSQL has
const defaultReadyMs = 60_000 // a first start migrates and joins the group: some 3 s here

const portOf = { gateway: 'GATEWAY_PORT', relay: 'RELAY_PORT', projector: 'PROJECTOR_PORT', query: 'QUERY_HTTP_PORT' } as const

/** Opens the addresses of those that have clients: they are held, whatever becomes of the processes behind them. */
export async function openFleet ({ host, ports, env, logFolder, say, mains = {}, readyMs = defaultReadyMs, pauseMsMax }: FleetOptions): Promise<Fleet> {
  const sockets: Partial<Record<AppName, Sockets>> = {
    gateway: await hold(host, { http: ports.GATEWAY_PORT }),
    query: await hold(host, { http: ports.QUERY_HTTP_PORT, grpc: ports.QUERY_GRPC_PORT })
  }
  let running: (Instance & RunningApp)[] = []
  let working = Promise.resolve()
  const stopping = new AbortController()

  const start = async (app: AppName, number: number): Promise<Instance & RunningApp> => {
    const shared = sockets[app]
    const own = await ownPort(ports[portOf[app]], shared === undefined ? number - 1 : number, ports)
    if (stopping.signal.aborted) throw new Error('everything is being stopped')
    const label = number === 1 ? app : `${app} ${number}`
    const settings = { ...env, ...Object.fromEntries(Object.entries(ports).map(([name, port]) => [name, String(port)])), [shared === undefined ? portOf[app] : 'OWN_PORT']: String(own) }
    const { kill, stop } = runApp(app, { env: settings, log: `${logFolder}/${label.replace(' ', '-')}.log`, label, main: mains[app], sockets: shared, pauseMsMax, say })
    return { app, number, url: `http://${addressOf(host, own)}`, kill, stop }
  }
  const resize = async (counts: Partial<Counts>, { ready = true } = {}) => {
    const wanted = (app: AppName) => counts[app] ?? running.filter(one => one.app === app).length
    const surplus = running.filter(({ app, number }) => number > wanted(app))
    running = running.filter(one => !surplus.includes(one))
    const stopped = Promise.all(surplus.map(async ({ stop }) => await stop()))
    const started: Instance[] = []
    for (const app of appNames) {
      for (let number = running.filter(one => one.app === app).length + 1; number <= wanted(app); number++) {
        running.push(await start(app, number))
        started.push(running.at(-1)!)
      }
    }
    await Promise.race([Promise.all([stopped, ...ready ? [untilWell(started, running.filter(({ app }) => app === 'relay'), readyMs)] : []]), aborted(stopping.signal)])
  }
  return {
    get instances () { return running },
    resize: async (counts, options) => await (working = working.catch(() => {}).then(async () => await resize(counts, options))),
    async stop () {
      stopping.abort()
      for (const shared of Object.values(sockets)) closeAll(shared)
      await Promise.all(running.map(async ({ stop }) => await stop()))
    }
  }
}

/** Waits until those that were started are ready; of the relays, one that may be any of them. */
async function untilWell (started: readonly Instance[], relays: readonly Instance[], readyMs: number): Promise<void> {
  const ending = new AbortController()
  const ready = async ({ app, number, url }: Instance, standsBy: boolean) => await untilReady(`${app} ${number}`, url, readyMs, { standsBy, signal: ending.signal })
  const working = async () => await Promise.any(relays.map(async one => await ready(one, false))).catch(({ errors }: AggregateError) => { throw errors.find(isLate) ?? errors[0] })
  try {
    const outcomes = await Promise.allSettled([...started.map(async one => await ready(one, one.app === 'relay')), ...relays.length > 0 ? [working()] : []])
    const errors = outcomes.flatMap(outcome => outcome.status === 'rejected' ? [outcome.reason as Error] : [])
    if (errors.length > 0) throw errors.find(error => !isLate(error)) ?? new NotReadyError(errors.map(({ message }) => message).join('\n'))
  } finally {
    ending.abort()
  }
}

const isLate = (error: unknown): boolean => error instanceof NotReadyError

/** The port of the process with this number, or one that is free if that is taken. The first of those without an address for all has the one in the settings. */
async function ownPort (base: number, index: number, ports: Ports): Promise<number> {
  return index === 0 ? base : await getPort({ port: ownPorts(base, index, ports) })
}
