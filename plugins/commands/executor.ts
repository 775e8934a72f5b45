/** The group commit: commands that arrive while earlier ones are being committed share the next transaction. */
import { Histogram, type Registry } from 'prom-client'
import { Overloaded, Unavailable } from '@bifold/cqrs'
import { isOutage, type Db } from '@bifold/postgres'
import { commit, keepRefusal, type Outcome } from './commit.ts'
import { noReactions, type Reactions } from './process-events.ts'
import type { Answer, Request } from './request.ts'
import { makeWaiting, type Waiting } from './waiting.ts'

export interface Limits {
  /** Commands in one transaction. */
  readonly groupSizeMax: number
  /** Their bodies together; one that is larger is committed alone. */
  readonly groupBytesMax: number
  /** Transactions under way at once. */
  readonly groupsMax: number
  /** Commands that wait; one more is refused. */
  readonly queueMax: number
  /** Their bodies together; one more is refused. */
  readonly queueBytesMax: number
}

export const limits: Limits = {
  groupSizeMax: 500, // beyond, a longer transaction costs more latency than it saves
  groupBytesMax: 4 * 1024 * 1024, // 500 bodies of 8 KB; a statement holds its states and events some four times over
  groupsMax: 2, // one decides while the other waits for the disk
  queueMax: 10_000, // about half a second of work at full rate; who comes later had better try again
  queueBytesMax: 32 * 1024 * 1024 // 10,000 bodies of 3 KB, ten times the usual; parsed, they take some 100 MB
}

export interface Executor {
  /** Resolves after the commit; rejects with a domain error, or UNAVAILABLE, or OVERLOADED. */
  execute (request: Request): Promise<Answer>
  /**
   * Resolves with the outcome of each. Those with the same `order` are executed in their order, also beyond one call: a group of them
   * is committed before the next begins. The queue has room for them beyond its bounds: who calls bounds how many there are.
   */
  executeAll (requests: readonly Request[], order: object): Promise<Outcome[]>
}

const attemptsMax = 5 // deadlocks and races with another gateway; each loses at most a few times

export function makeExecutor (db: Db, metrics: Registry, own: Partial<Limits> = {}, reactions: Reactions = noReactions): Executor {
  const { groupSizeMax, groupBytesMax, groupsMax, queueMax, queueBytesMax } = { ...limits, ...own }
  const waiting = makeWaiting({ groupSizeMax, groupBytesMax })
  const committer: Committer = { commit: async requests => await commit(db, requests, reactions), keepRefusal: async (request, error) => await keepRefusal(db, request, error) }
  let committing = 0
  const sizes = new Histogram({ name: 'bifold_commit_group_size', help: 'Commands in one transaction', buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500], registers: [metrics] })

  // Not at once: the commands that came in with the same turn of the event loop share a transaction, and the first of them waits microseconds.
  let scheduled = false
  const soon = () => {
    if (scheduled) return
    scheduled = true
    setImmediate(begin)
  }
  const begin = () => {
    scheduled = false
    while (committing < groupsMax) {
      const { group, over } = waiting.next()
      if (group.length === 0) break
      committing++
      sizes.observe(group.length)
      void settle(committer, group).then(reached => {
        // Who comes after in an order must not be done without who went before.
        giveUp(over(reached))
        committing--
        begin()
      })
    }
  }
  return {
    execute (request) {
      if (waiting.count >= queueMax || waiting.bytes + request.bytes > queueBytesMax) return Promise.reject(new Overloaded())
      const { promise, resolve, reject } = Promise.withResolvers<Answer>()
      waiting.push({ request, settle: outcome => outcome.ok ? resolve(outcome.answer) : reject(outcome.error) })
      soon()
      return promise
    },
    async executeAll (requests, order) {
      const outcomes: Outcome[] = []
      let left = requests.length
      if (left === 0) return outcomes
      return await new Promise(resolve => {
        requests.forEach((request, index) => {
          waiting.push({
            request,
            order,
            settle (outcome) {
              outcomes[index] = outcome
              if (--left === 0) resolve(outcomes)
            }
          })
        })
        soon()
      })
    }
  }
}

interface Committer {
  commit (requests: readonly Request[]): Promise<Outcome[]>
  keepRefusal (request: Request, error: unknown): Promise<void>
}

/** Commits a group and answers each of its commands; never rejects. Resolves with false if PostgreSQL went away, or if one is to be tried again before what comes after it in its order. */
async function settle (committer: Committer, group: readonly Waiting[]): Promise<boolean> {
  const [first] = group
  if (group.length === 1) {
    const outcome = await alone(committer, first!.request)
    first!.settle(outcome)
    return outcome.ok || !(outcome.error instanceof Unavailable || (first!.order !== undefined && isRace(outcome.error)))
  }
  try {
    const outcomes = await committer.commit(group.map(({ request }) => request))
    group.forEach((one, index) => one.settle(outcomes[index]!))
    return true
  } catch (error) {
    // An outage is nobody's fault, and leaves open whether the commit was done: nothing is tried again.
    if (isOutage(error)) return giveUp(group)
    // The transaction was rolled back. One of the group is guilty, and is found by halves: in the end each fails for its own reasons only.
    const middle = group.length >>> 1
    return await settle(committer, group.slice(0, middle)) ? await settle(committer, group.slice(middle)) : giveUp(group.slice(middle))
  }
}

function giveUp (group: readonly Waiting[]): false {
  for (const one of group) one.settle({ ok: false, error: new Unavailable('PostgreSQL') })
  return false
}

async function alone (committer: Committer, request: Request): Promise<Outcome> {
  for (let attempt = 1; ; attempt++) {
    try {
      const [outcome] = await committer.commit([request])
      return outcome!
    } catch (error) {
      if (isOutage(error)) return away
      if (!isRace(error)) return await refused(committer, request, error)
      if (attempt === attemptsMax) return { ok: false, error }
    }
  }
}

const away: Outcome = { ok: false, error: new Unavailable('PostgreSQL') }

async function refused (committer: Committer, request: Request, error: unknown): Promise<Outcome> {
  try {
    if (!isDoneElsewhere(error)) await committer.keepRefusal(request, error)
    return { ok: false, error }
  } catch {
    return away // it is as if it had not been tried
  }
}

// Serialization failure, deadlock, or a row that another gateway wrote first: the next attempt sees what it wrote.
const races = new Set(['40001', '40P01'])
const racedConstraints = new Set(['idempotency_keys_pkey', 'events_version_unique'])
export function isRace (error: unknown): boolean {
  const { code = '', constraint = '' } = error as { code?: string, constraint?: string }
  return races.has(code) || (code === '23505' && racedConstraints.has(constraint))
}

/** Another gateway has done this command of the queue. */
const isDoneElsewhere = (error: unknown): boolean => (error as { constraint?: string }).constraint === 'queued_commands_pkey'
