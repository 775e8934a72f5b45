/** Everything that can crash: the four apps and the servers, each to be killed, paused and brought back. */
import { createWriteStream } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { execa } from 'execa'
import { status, up } from '@bifold/stack'
import { appNames, nodeFlags, type AppName } from '../apps.ts'

export type Ports = Readonly<Record<'GATEWAY_PORT' | 'QUERY_HTTP_PORT' | 'QUERY_GRPC_PORT' | 'PROJECTOR_PORT' | 'PROJECTOR_2_PORT' | 'RELAY_PORT', number>>

export interface Actor {
  readonly name: string
  /** As kill -9, the power cable; first it hangs for a time, in which it does nothing of what it is asked. */
  kill (hangMs?: number): Promise<void>
  /** As SIGSTOP: it holds its connections, and does nothing. */
  pause (ms: number): Promise<void>
  /** Starts it again, if it does not do so by itself. */
  revive (): Promise<void>
}

export interface Actors {
  readonly all: readonly Actor[]
  /** Those whose work another takes over when they are silent for too long. */
  readonly holders: readonly Actor[]
  readonly servers: readonly Actor[]
  /** Everything runs, and nothing is paused. */
  heal (): Promise<void>
  stop (): Promise<void>
}

export interface ActorsOptions { readonly dir: string, readonly apps: string, readonly env: Readonly<Record<string, string>>, readonly ports: Ports }

/** Beside the data, which are removed. */
export const logsOf = (dir: string): string => `${dir}/apps-logs`

const againMs = 300 // as a supervisor that wastes no time
const stopMs = 20_000 // an app closes itself within 15 s

export async function startActors ({ dir, apps, env, ports }: ActorsOptions): Promise<Actors> {
  const settings = { ...env, ...Object.fromEntries(Object.entries(ports).map(([name, port]) => [name, String(port)])), LOG_LEVEL: 'warn' }
  const running = [
    ...appNames.map(name => startApp(name, name, { folder: apps, dir, env: settings })),
    // Two that share the partitions, and may both believe that they own one.
    startApp('projector-2', 'projector', { folder: apps, dir, env: { ...settings, PROJECTOR_PORT: String(ports.PROJECTOR_2_PORT) } })
  ]
  // One at a time: `up` starts whatever is down, also what another revival is just bringing up.
  let reviving = Promise.resolve()
  const revive = async () => await (reviving = reviving.then(async () => { await up({ dir, ports: 'free', renderer: 'silent', environment: {} }) }))
  const servers = (await status({ dir })).flatMap(({ processes }) => processes.map(({ name }) => name)).map(name => server(name, dir, revive))
  const all = [...running.map(({ actor }) => actor), ...servers.map(({ actor }) => actor)]
  return {
    all,
    servers: servers.map(({ actor }) => actor),
    holders: all.filter(({ name }) => /^(relay|projector)/.test(name)),
    async heal () {
      for (const { signal } of running) signal('SIGCONT')
      for (const { signal } of servers) await signal('SIGCONT')
      await revive()
    },
    async stop () {
      await Promise.all(running.map(async ({ stop }) => await stop()))
    }
  }
}

function server (name: string, dir: string, revive: () => Promise<void>) {
  // All its processes at one moment: a backend whose postmaster alone has died, or hangs, finishes its commit.
  const signal = async (signal: NodeJS.Signals) => {
    const parents = (await status({ dir })).flatMap(({ processes }) => processes.flatMap(one => one.pid !== undefined && one.name === name ? [one.pid] : []))
    if (parents.length === 0) return
    const { stdout } = await execa('pgrep', ['-P', parents.join(',')], { reject: false })
    for (const pid of [...parents, ...stdout.split('\n').filter(Boolean).map(Number)]) send(pid, signal)
  }
  return { signal, actor: { name, kill: killed(signal), pause: paused(signal), revive } satisfies Actor }
}

function send (pid: number, signal: NodeJS.Signals) {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended by itself.
  }
}

function startApp (name: string, app: AppName, { folder, dir, env }: { folder: string, dir: string, env: Record<string, string> }) {
  const log = createWriteStream(`${logsOf(dir)}/${name}.log`, { flags: 'a' })
  let kill = (_: NodeJS.Signals) => {}
  const stopping = new AbortController()
  const ended = (async () => {
    while (!stopping.signal.aborted) {
      const child = execa(process.execPath, [...nodeFlags(app), app === 'projector' ? 'tools/crash-kit/projector.ts' : `apps/${app}/main.ts`], { cwd: folder, env, stdin: 'ignore', buffer: false, reject: false, forceKillAfterDelay: stopMs })
      kill = signal => { child.kill(signal) }
      child.stdout.pipe(log, { end: false })
      child.stderr.pipe(log, { end: false })
      await child
      if (!stopping.signal.aborted) await setTimeout(againMs)
    }
  })()
  const signal = (signal: NodeJS.Signals) => kill(signal)
  return {
    signal,
    actor: { name, kill: killed(async one => signal(one)), pause: paused(async one => signal(one)), revive: async () => {} } satisfies Actor,
    async stop () {
      stopping.abort()
      signal('SIGCONT')
      signal('SIGTERM')
      await ended
      log.end()
    }
  }
}

function paused (signal: (signal: NodeJS.Signals) => Promise<void>) {
  return async (ms: number) => {
    await signal('SIGSTOP')
    await setTimeout(ms)
    await signal('SIGCONT')
  }
}

function killed (signal: (signal: NodeJS.Signals) => Promise<void>) {
  return async (hangMs = 0) => {
    if (hangMs > 0) await signal('SIGSTOP')
    await setTimeout(hangMs)
    await signal('SIGKILL')
  }
}
