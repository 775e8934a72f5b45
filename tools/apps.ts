/** The apps as processes: started, started again with a growing pause when they die, and stopped. */
import { spawn } from 'node:child_process'
import { once as event } from 'node:events'
import { createWriteStream, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as setTimer } from 'node:timers'
import { setTimeout } from 'node:timers/promises'
import { handed, keepRunning, type Sockets } from '@bifold/service'
import { atTerminal } from '@bifold/stack/terminal'

export const appNames = ['gateway', 'relay', 'projector', 'query'] as const
export type AppName = typeof appNames[number]

/**
 * What Node is started with. Requests leave garbage that lives for milliseconds: in the small nursery that V8 begins with, what is
 * still under way is copied again and again, which took the gateway a third of its time, or is taken for old, and the query
 * service grew to 400 MB instead of 190. The apps that stream hold little (their queues are bounded by bytes), but leave so much
 * garbage that V8 would let their heaps grow, too. Their limit has to be far above what they hold and their nursery, which V8 reckons
 * with as what may survive (docs/decisions/0027-heap-of-the-projector.md).
 */
export const nodeFlags = (name: string): readonly string[] => memory[name] ?? memory['gateway']!

const memory: Readonly<Record<string, readonly string[]>> = {
  gateway: nursery(32),
  relay: [...nursery(16), '--max-old-space-size=128'],
  projector: [...nursery(32), '--max-old-space-size=256'],
  query: nursery(16)
}

function nursery (mb: number): string[] {
  return [`--min-semi-space-size=${mb}`, `--max-semi-space-size=${mb}`]
}

export interface RunningApp {
  /** As SIGKILL, or with another signal, for tests; when it has ended, it is started again. */
  kill (signal?: NodeJS.Signals): void
  stop (): Promise<void>
}

const stopMs = 20_000 // an app closes itself within 15 s; then it is killed

export interface RunAppOptions {
  readonly env: Record<string, string>
  readonly log: string
  /** What it is called when something is said about it. */
  readonly label: string
  /** Another program in the place of the app's own. */
  readonly main?: string | undefined
  /** What it is to listen on, in the place of ports (plugins/service/sharing.ts). */
  readonly sockets?: Sockets | undefined
  /** The longest pause before it is started again. */
  readonly pauseMsMax?: number | undefined
  /** Told in words what happens. */
  readonly say: (sentence: string) => void
}

/** Keeps one app running until it is stopped. */
export function runApp (name: AppName, { env, log, label, main = `apps/${name}/main.ts`, sockets = {}, pauseMsMax, say }: RunAppOptions): RunningApp {
  mkdirSync(dirname(log), { recursive: true })
  const stopping = new AbortController()
  const { env: named, fds } = handed(sockets)
  let child: ReturnType<typeof start> | undefined

  // Ctrl-C reaches it once, through us; by the IPC channel it knows when we are gone.
  const start = () => spawn(process.execPath, [...nodeFlags(name), main], {
    env: { ...process.env, ...env, ...named }, detached: atTerminal(), stdio: ['ignore', 'pipe', 'pipe', ...fds, 'ipc']
  })

  const once = async () => {
    child = start()
    const file = createWriteStream(log, { flags: 'a' })
    const outputs = [child.stdout!, child.stderr!]
    for (const output of outputs) output.pipe(file, { end: false })
    file.on('error', error => {
      say(`The log of ${label} cannot be written (${error.message}): it runs on without`)
      for (const output of outputs) output.resume() // An app whose output nobody reads would stand still.
    })
    const [exitCode, signal] = await event(child, 'close').catch((error: Error) => [error.message]) // it could not be started
    file.end()
    if (stopping.signal.aborted) return
    say(`${label} ended (${signal ?? `exit code ${exitCode}`}) and is started again; its log is ${log}`)
  }
  const done = keepRunning(once, stopping.signal, pauseMsMax)
  return {
    kill (signal = 'SIGKILL') { child?.kill(signal) },
    async stop () {
      stopping.abort()
      child?.kill('SIGTERM')
      const force = setTimer(() => child?.kill('SIGKILL'), stopMs)
      await done
      clearTimeout(force)
    }
  }
}

const pollMs = 100
const answerMs = 5000 // an app tells within 4 s what its workers say; one that hangs takes connections in, and never says anything

/** An app answers, and says why it is not ready: it may need longer, or wait for somebody to do something. */
export class NotReadyError extends Error {
  override name = 'NotReadyError'
}

/** Waits until an app is ready; rejects if it is not in time, with the reason that it gives. One that `standsBy` need only answer. Waits no longer than until the signal. */
export async function untilReady (name: string, url: string, timeoutMs: number, { standsBy = false, signal }: { standsBy?: boolean, signal?: AbortSignal } = {}): Promise<void> {
  const end = Date.now() + timeoutMs
  let why: string | undefined
  while (Date.now() < end) {
    if (signal?.aborted === true) return
    try {
      const response = await fetch(`${url}/health/ready`, { signal: AbortSignal.any([AbortSignal.timeout(answerMs), ...signal === undefined ? [] : [signal]]) })
      if (response.ok || standsBy) return
      const { checks } = await response.json() as { checks: Record<string, { ok: boolean, reason?: string }> }
      why = Object.entries(checks).filter(([, { ok }]) => !ok).map(([check, { reason }]) => `${check}: ${reason}`).join('; ')
    } catch {
      why = undefined
    }
    await setTimeout(pollMs)
  }
  const late = `The ${name} is not ready after ${timeoutMs / 1000} s`
  throw why === undefined ? new Error(`${late}: it does not answer`) : new NotReadyError(`${late}: ${why}`)
}
