/** Watches a system of processes: what each says about itself twice a second, in readiness and metrics. */
import { setTimeout } from 'node:timers/promises'
import type { Test } from 'tap'
import type { AppName } from './pipeline.ts'
import type { Member, System } from './system.ts'

/** What an app said at one time; times are of Date.now(). */
export interface Sample {
  readonly app: AppName
  readonly begun: number
  readonly ended: number
  readonly ready: boolean
  /** The names of the checks that fail. */
  readonly failing: readonly string[]
  readonly residentBytes: number
  /** Events read ahead, of an app that does so. */
  readonly waiting: number
}

export interface Watched {
  readonly samples: readonly Sample[]
  /** A figure of the first process of an app. */
  figure (app: AppName, name: string): Promise<number>
  /** The sum of a figure over those of its labels that match. */
  sum (app: AppName, name: string, labels: string): Promise<number>
  stop (): Promise<void>
}

const everyMs = 500 // several within any outage worth its name; a burden to nobody

export function watch (t: Test, { members, of }: System): Watched {
  const samples: Sample[] = []
  const stopping = new AbortController()
  const watching = Promise.all(members.map(async member => {
    while (!stopping.signal.aborted) {
      samples.push(await look(member))
      await setTimeout(everyMs, undefined, { signal: stopping.signal }).catch(() => {})
    }
  }))
  const stop = async () => {
    stopping.abort()
    await watching
  }
  t.teardown(stop)
  const lines = async (app: AppName) => (await text(of(app)[0]!)).split('\n')
  return {
    samples,
    stop,
    figure: async (app, name) => Number((await lines(app)).find(line => line.startsWith(`${name} `))!.split(' ')[1]),
    sum: async (app, name, labels) => (await lines(app)).filter(line => line.startsWith(`${name}{`) && line.includes(labels)).reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
  }
}

const text = async ({ url }: Member) => await (await fetch(`${url}/metrics`)).text()

async function look (member: Member): Promise<Sample> {
  const begun = Date.now()
  const response = await fetch(`${member.url}/health/ready`)
  const { checks } = await response.json() as { checks: Record<string, { ok: boolean }> }
  const metrics = await text(member)
  const figure = (pattern: string) => Number(new RegExp(`^${pattern} (.+)$`, 'm').exec(metrics)?.[1] ?? 0)
  return {
    app: member.app,
    begun,
    ended: Date.now(),
    ready: response.ok,
    failing: Object.entries(checks).filter(([, { ok }]) => !ok).map(([name]) => name),
    residentBytes: figure('process_resident_memory_bytes'),
    waiting: figure('bifold_\\w+_waiting_events')
  }
}
