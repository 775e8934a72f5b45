/** Waits until all apps are ready again and nothing is left to be done. */
import { setTimeout } from 'node:timers/promises'

/** Of all apps that are to be ready, and of those that know how far they are. */
export interface Settling { readonly all: readonly number[], readonly RELAY_PORT: number, readonly PROJECTOR_PORT: number }

const settleMs = 60_000 // twice what a recovery may take: what was written while a server was down has to be done, too
const pollMs = 200
const patienceMs = 5000 // what takes longer is told, as often

/** @returns how long after `since` it was so, in milliseconds; `say` is told what is waited for */
export async function untilSettled (ports: Settling, since: number, say: (line: string) => void): Promise<number> {
  const end = Date.now() + settleMs
  let why = ''
  let told = Date.now()
  while (Date.now() < end) {
    try {
      why = await whyNotReady(ports)
      if (why === '' && await figure(ports.RELAY_PORT, 'bifold_relay_lag_events') === 0 && await figure(ports.PROJECTOR_PORT, 'bifold_projector_lag_events') === 0) return Date.now() - since
    } catch (error) {
      why = (error as Error).message
    }
    if (Date.now() - told > patienceMs) {
      say(`waiting: ${why || 'the lag remains'}`)
      told = Date.now()
    }
    await setTimeout(pollMs)
  }
  throw new Error(`it did not recover within ${settleMs / 1000} s: ${why || 'the lag remains'}`)
}

/** What the apps say, if one of them is not ready; else nothing. */
export async function whyNotReady ({ all }: Pick<Settling, 'all'>): Promise<string> {
  const reasons = await Promise.all(all.map(async port => await unready(port)))
  return reasons.join(' ').trim()
}

async function unready (port: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/health/ready`)
  return response.ok ? '' : await response.text()
}

async function figure (port: number, name: string): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  return Number(new RegExp(`^${name} (.+)$`, 'm').exec(metrics)?.[1])
}
