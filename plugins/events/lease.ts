/**
 * One relay at a time: an advisory lock of PostgreSQL, held by a session that PostgreSQL ends when nothing is heard of it. So a
 * relay that hangs loses it too, and, when it goes on, knows by its own clock that it may send no more (Gray and Cheriton, "Leases", 1989).
 */
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'

export interface Lease {
  /** False from some moment before another relay may begin. */
  readonly held: () => boolean
  /** Rejects when it is lost. */
  readonly lost: Promise<never>
  release (): Promise<void>
}

export interface LeaseOptions {
  readonly url: string
  readonly signal: AbortSignal
  /** Told why it waits. */
  readonly waiting: (reason: string) => void
}

const leaseMs = 6000 // with what a start takes, a relay that hangs is replaced within 10 s; PostgreSQL itself may pause for so long
const marginMs = 500 // between our last send and another's first
const beatMs = 1500 // several in a lease
const againMs = 300 // a standby asks so often
const relayLock = 0x72656c79 // 'rely': in the database of the event log
const connectMs = 5000 // as everywhere

/** Waits until the lease is ours; undefined if the signal came first. */
export async function takeLease ({ url, signal, waiting }: LeaseOptions): Promise<Lease | undefined> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: connectMs, application_name: 'bifold-relay-lease' })
  const lost = Promise.withResolvers<never>()
  lost.promise.catch(() => {})
  client.on('error', lost.reject)
  await client.connect()
  try {
    await client.query(`set idle_session_timeout = ${leaseMs}`)
    let heard = performance.now()
    while (!(await client.query<{ taken: boolean }>(`select pg_try_advisory_lock(${relayLock}) as taken`)).rows[0]!.taken) {
      waiting('another relay is at work; this one stands by')
      await setTimeout(againMs, undefined, { signal }).catch(() => {})
      if (signal.aborted) {
        await client.end()
        return undefined
      }
      heard = performance.now()
    }
    const timer = setInterval(() => {
      const asked = performance.now()
      client.query('select').then(() => { heard = asked }, lost.reject)
    }, beatMs)
    return {
      held: () => performance.now() - heard < leaseMs - marginMs,
      lost: lost.promise,
      async release () {
        clearInterval(timer)
        await client.end().catch(() => {})
      }
    }
  } catch (error) {
    await client.end().catch(() => {})
    throw error
  }
}
