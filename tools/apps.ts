/** The four apps as processes: started, started again with a growing pause when they die, and stopped. */
import { createWriteStream, mkdirSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { execa } from 'execa'
import { keepRunning } from '@bifold/service'

export const appNames = ['gateway', 'relay', 'projector', 'query'] as const
export type AppName = typeof appNames[number]

/**
 * What Node is started with. Requests leave garbage that lives for milliseconds: in the small nursery that V8 begins with, what is
 * still under way is copied again and again, which took the gateway a third of its time, or is taken for old, and the query
 * service grew to 400 MB instead of 190. The apps that stream hold little (their queues are bounded by bytes), but leave so much
 * garbage that V8 would let their heaps grow, too.
 */
export const nodeFlags = (name: string): string[] => ['--disable-warning=TimeoutNegativeWarning', ...memory[name] ?? memory['gateway']!]

const memory: Readonly<Record<string, readonly string[]>> = {
  gateway: nursery(32),
  relay: [...nursery(16), '--max-old-space-size=128'],
  projector: [...nursery(16), '--max-old-space-size=128'],
  query: nursery(16)
}

function nursery (mb: number): string[] {
  return [`--min-semi-space-size=${mb}`, `--max-semi-space-size=${mb}`]
}

export interface RunningApp {
  readonly name: AppName
  stop (): Promise<void>
}

const stopMs = 20_000 // an app closes itself within 15 s; then it is killed

export interface RunAppOptions {
  readonly env: Record<string, string>
  readonly logFolder: string
  /** Told in words what happens. */
  readonly say: (sentence: string) => void
}

/** Keeps one app running until it is stopped. */
export function runApp (name: AppName, { env, logFolder, say }: RunAppOptions): RunningApp {
  mkdirSync(logFolder, { recursive: true })
  const log = `${logFolder}/${name}.log`
  const stopping = new AbortController()
  let stopChild: (() => Promise<unknown>) | undefined

  const once = async () => {
    // Its own process group, so that Ctrl-C reaches it once, through us; by the IPC channel it knows when we are gone.
    const child = execa(process.execPath, [...nodeFlags(name), `apps/${name}/main.ts`], { env, detached: true, cleanup: false, stdin: 'ignore', ipc: true, buffer: false, reject: false, forceKillAfterDelay: stopMs })
    const file = createWriteStream(log, { flags: 'a' })
    child.stdout.pipe(file, { end: false })
    child.stderr.pipe(file, { end: false })
    stopChild = async () => {
      child.kill('SIGTERM')
      await child
    }
    const { exitCode, signal } = await child
    file.end()
    if (stopping.signal.aborted) return
    say(`${name} ended (${signal ?? `exit code ${exitCode}`}) and is started again; its log is ${log}`)
  }
  const done = keepRunning(once, stopping.signal)
  return {
    name,
    async stop () {
      stopping.abort()
      await stopChild?.()
      await done
    }
  }
}

const pollMs = 100

/** Waits until an app is ready; rejects with the reason that it gives, if it is not in time. */
export async function untilReady (name: string, url: string, timeoutMs: number): Promise<void> {
  const end = Date.now() + timeoutMs
  let why = 'it does not answer'
  while (Date.now() < end) {
    try {
      const response = await fetch(`${url}/health/ready`)
      if (response.ok) return
      const { checks } = await response.json() as { checks: Record<string, { ok: boolean, reason?: string }> }
      why = Object.entries(checks).filter(([, { ok }]) => !ok).map(([check, { reason }]) => `${check}: ${reason}`).join('; ')
    } catch {
      why = 'it does not answer'
    }
    await setTimeout(pollMs)
  }
  throw new Error(`The ${name} is not ready after ${timeoutMs / 1000} s: ${why}`)
}
