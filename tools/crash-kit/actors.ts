/** Everything that can crash: the processes of the apps and the servers, each to be killed, paused and brought back. */
import { setTimeout } from 'node:timers/promises'
import { execa } from 'execa'
import { status, up } from '@bifold/stack'
import type { Fleet, Instance } from '../fleet.ts'

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
}

/** Of the apps in a fleet, which is not resized any more, and of the servers of the stack in a folder. */
export async function actorsOf ({ instances }: Fleet, dir: string): Promise<Actors> {
  const apps = instances.toSorted((one, other) => one.number - other.number).map(actor)
  // One at a time: `up` starts whatever is down, also what another revival is just bringing up.
  let reviving = Promise.resolve()
  const revive = async () => await (reviving = reviving.then(async () => { await up({ dir, ports: 'free', renderer: 'silent', environment: {} }) }))
  const servers = (await status({ dir })).flatMap(({ processes }) => processes.map(({ name }) => name)).map(name => server(name, dir, revive))
  // A gateway has partitions of the queue, which nobody takes over if it is the only one.
  const holding = apps.some(({ name }) => name === 'gateway 2') ? /^(gateway|relay|projector) / : /^(relay|projector) /
  return {
    all: [...apps, ...servers.map(({ actor }) => actor)],
    servers: servers.map(({ actor }) => actor),
    holders: apps.filter(({ name }) => holding.test(name)),
    async heal () {
      for (const one of instances) one.kill('SIGCONT')
      for (const { signal } of servers) await signal('SIGCONT')
      await revive()
    }
  }
}

function actor ({ app, number, kill }: Instance): Actor {
  const signal = async (signal: NodeJS.Signals) => kill(signal)
  return { name: `${app} ${number}`, kill: killed(signal), pause: paused(signal), async revive () {} }
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
