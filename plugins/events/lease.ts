/**
 * One relay at a time: an advisory lock of PostgreSQL, held by a session that PostgreSQL ends when nothing is heard of it. So a
 * relay that hangs loses it too, and, when it goes on, knows by its own clock that it may send no more (Gray and Cheriton, "Leases", 1989).
 */
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import { over, type Db } from '@bifold/postgres'
import { part } from './parting.ts'

export interface Lease {
  /** False from some moment before another relay may begin. */
  readonly held: () => boolean
  /** The database, by the session of the lease: what is written here fails once the lease is lost. */
  readonly db: Db
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
  let asked: Promise<unknown> = Promise.resolve()
  // One after the other: a connection answers one question at a time.
  const query = async (text: string, parameters: readonly unknown[] = []) => {
    const answer = asked.catch(() => {}).then(async () => await client.query(text, [...parameters]))
    asked = answer
    return await answer
  }
  try {
    await query(`set idle_session_timeout = ${leaseMs}`)
    let heard = performance.now()
    while (!(await query(`select pg_try_advisory_lock(${relayLock}) as taken`)).rows[0]!.taken) {
      waiting('another relay is at work; this one stands by')
      await setTimeout(againMs, undefined, { signal }).catch(() => {})
      if (signal.aborted) {
        await client.end()
        return undefined
      }
      heard = performance.now()
    }
    const held = () => performance.now() - heard < leaseMs - marginMs
    const timer = setInterval(() => {
      const at = performance.now()
      query('select').then(() => { heard = at }, lost.reject)
      // PostgreSQL may have gone without a word: then no answer, and no error either, would come for minutes.
      if (!held()) lost.reject(new Error(`nothing was heard of the lease for ${leaseMs - marginMs} ms`))
    }, beatMs)
    return {
      held,
      db: over({ query }),
      lost: lost.promise,
      async release () {
        clearInterval(timer)
        await part(client)
      }
    }
  } catch (error) {
    await client.end().catch(() => {})
    throw error
  }
}
