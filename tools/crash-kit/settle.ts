/** Waits until all apps are ready again and nothing is left to be done. */
import { setTimeout } from 'node:timers/promises'

/** Of all apps that are to be ready, and of those that know how far they are; and, where processes react to events, how many are left for them. */
export interface Settling { readonly all: readonly number[], readonly RELAY_PORT: number, readonly PROJECTOR_PORT: number, readonly due?: () => Promise<number> }

const settleMs = 60_000 // twice what a recovery may take: what was written while a server was down has to be done, too
const pollMs = 200
const patienceMs = 5000 // what takes longer is told, as often

/** How long after `since` all was well, in milliseconds; or what was waited for in vain. */
export interface Settled { readonly afterMs: number, readonly unsettled?: string }

/** Waits until it is so; `say` is told what is waited for. */
export async function untilSettled (ports: Settling, since: number, say: (line: string) => void): Promise<Settled> {
  const end = Date.now() + settleMs
  let why = ''
  let told = Date.now()
  while (Date.now() < end) {
    try {
      why = await whyNotReady(ports)
      if (why === '') why = await lag(ports)
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

/** What the apps say, if one of them is not ready; else nothing. */
export async function whyNotReady ({ all }: Pick<Settling, 'all'>): Promise<string> {
  const reasons = await Promise.all(all.map(async port => await unready(port)))
  return reasons.join(' ').trim()
}

/** How many events the processes, the relay and the projector are behind, if they are: in this order, since each makes work for the next. */
async function lag ({ RELAY_PORT, PROJECTOR_PORT, due }: Settling): Promise<string> {
  const left = await due?.() ?? 0
  if (left > 0) return `processes have to react to ${left} events`
  const [relay, projector] = [await figure(RELAY_PORT, 'bifold_relay_lag_events'), await figure(PROJECTOR_PORT, 'bifold_projector_lag_events')]
  return relay === 0 && projector === 0 ? '' : `the relay is ${relay} events behind, the projector ${projector}`
}

async function unready (port: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/health/ready`)
  return response.ok ? '' : await response.text()
}

async function figure (port: number, name: string): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  return Number(new RegExp(`^${name} (.+)$`, 'm').exec(metrics)?.[1])
}
