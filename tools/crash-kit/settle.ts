/** Waits until all apps are ready again and nothing is left to be done. */
import { setTimeout } from 'node:timers/promises'
import type { AppName } from '../apps.ts'
import type { Instance } from '../fleet.ts'

type Process = Pick<Instance, 'app' | 'url'>

/** All processes; and, where processes react to events, how many are left for them. */
export interface Settling { readonly processes: readonly Process[], readonly due?: () => Promise<number> }

const settleMs = 60_000 // twice what a recovery may take: what was written while a server was down has to be done, too
const pollMs = 200
const patienceMs = 5000 // what takes longer is told, as often

/** How long after `since` all was well, in milliseconds; or what was waited for in vain. */
export interface Settled { readonly afterMs: number, readonly unsettled?: string }

/** Waits until it is so; `say` is told what is waited for. */
export async function untilSettled (settling: Settling, since: number, say: (line: string) => void): Promise<Settled> {
  const end = Date.now() + settleMs
  let why = ''
  let told = Date.now()
  while (Date.now() < end) {
    try {
      why = await whyNotReady(settling.processes)
      if (why === '') why = await lag(settling)
      if (why === '') return { afterMs: Date.now() - since }
    } catch (error) {
      why = (error as Error).message
    }
    if (Date.now() - told > patienceMs) {
      say(`waiting: ${why}`)
      told = Date.now()
    }
    await setTimeout(pollMs)
  }
  return { afterMs: Date.now() - since, unsettled: why }
}

/** What the processes say, if one of them is not ready; else nothing. Where one relay is at work, the others need only stand by. */
export async function whyNotReady (processes: readonly Process[]): Promise<string> {
  const reasons = await Promise.all(processes.map(unready))
  const isRelayed = processes.some(({ app }, index) => app === 'relay' && reasons[index] === '')
  return reasons.filter(reason => !isRelayed || !reason.includes('stands by')).join(' ').trim()
}

/** How many events the processes, the relay and the projector are behind, if they are: in this order, since each makes work for the next. */
async function lag ({ processes, due }: Settling): Promise<string> {
  const left = await due?.() ?? 0
  if (left > 0) return `processes have to react to ${left} events`
  // Who stands by goes by a checkpoint that is some seconds old: the one at work is the least behind.
  const least = async (of: AppName, name: string) => Math.min(...await Promise.all(processes.filter(({ app }) => app === of).map(async one => await figure(one, name))))
  const [relay, projector] = [await least('relay', 'bifold_relay_lag_events'), await least('projector', 'bifold_projector_lag_events')]
  return relay === 0 && projector === 0 ? '' : `the relay is ${relay} events behind, the projector ${projector}`
}

/** Why it is not ready; nothing if it is. */
async function unready ({ url }: Process): Promise<string> {
  const response = await fetch(`${url}/health/ready`)
  return response.ok ? '' : await response.text()
}

async function figure ({ url }: Process, name: string): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text()
  return Number(new RegExp(`^${name} (.+)$`, 'm').exec(metrics)?.[1])
}
