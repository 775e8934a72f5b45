/** Reads by id that arrive while a fetch is in flight go out together as the next one. */
import { AnswerTooLarge, Cancelled, DeadlineExceeded, Overloaded } from '@bifold/cqrs'
import { outcomeOf, type Call } from './call.ts'
import { graceMs } from './turns.ts'

export interface Coalesced<Found> {
  /** What was found of these ids. */
  read (ids: readonly string[], call: Call): Promise<ReadonlyMap<string, Found>>
  close (): void
}

/** One fetch for many callers; rejects with AnswerTooLarge if it would be more than one answer may have. The signal says that none of them waits any more. */
export type Fetch<Found> = (ids: readonly string[], maxTimeMs: number, signal: AbortSignal) => Promise<ReadonlyMap<string, Found>>

export const idsMax = 1000 // in one fetch; a thousand books are 1 MB
const growth = 1.1 // with each fetch: one in eight is in vain while documents are large
const waitingMax = 10_000 // half a second of work at full rate; who comes later had better try again
const sweepMs = 20 // a caller whose deadline has passed hears of it so much later at most, as does MongoDB of callers who are gone

const nothing = () => {}

interface Waiting<Found> {
  readonly ids: readonly string[]
  readonly call: Call
  readonly resolve: (found: ReadonlyMap<string, Found>) => void
  readonly reject: (error: unknown) => void
}

export function coalesce<Found> (fetch: Fetch<Found>): Coalesced<Found> {
  let waiting: Waiting<Found>[] = []
  const open = new Set<Waiting<Found>>() // those whose caller has not been answered
  let idsNow = idsMax // fewer, for a while, when documents are large
  let look = nothing // whether anybody waits for the fetch in flight
  let [fetching, scheduled] = [false, false]

  const fail = (one: Waiting<Found>, error: unknown) => { if (open.delete(one)) one.reject(error) }

  const serve = async (group: readonly Waiting<Found>[]): Promise<void> => {
    const wanted = group.filter(one => open.has(one) && isWanted(one, fail))
    if (wanted.length === 0) return
    const deadline = Math.max(...wanted.map(({ call }) => call.deadline))
    const leaving = makeLeaving(deadline, () => wanted.some(one => open.has(one)))
    look = leaving.look
    try {
      const found = await fetch(idsOf(wanted), Math.max(1, Math.ceil(deadline - Date.now())), leaving.signal)
      for (const one of wanted) if (open.delete(one)) one.resolve(found)
      idsNow = Math.min(idsMax, Math.ceil(idsNow * growth))
    } catch (error) {
      if (error instanceof AnswerTooLarge && wanted.length > 1) return again(wanted)
      for (const one of wanted) fail(one, outcomeOf(error))
    } finally {
      look = nothing
    }
  }

  // Together they were too much for one fetch, which none of them need be: half as many go next.
  const again = (group: readonly Waiting<Found>[]) => {
    idsNow = Math.ceil(group.reduce((all, { ids }) => all + ids.length, 0) / 2)
    waiting = [...group, ...waiting]
  }

  const begin = () => {
    scheduled = false
    if (fetching || waiting.length === 0) return
    const [group, rest] = split(waiting, idsNow)
    waiting = rest
    fetching = true
    serve(group).finally(() => {
      fetching = false
      begin()
    })
  }

  // Not at once: the calls that came in with one packet go out with one fetch, and the first of them waits microseconds.
  const soon = () => {
    if (scheduled) return
    scheduled = true
    setImmediate(begin)
  }

  const sweep = setInterval(() => {
    for (const one of open) isWanted(one, fail)
    waiting = waiting.filter(one => open.has(one))
    look()
  }, sweepMs).unref()

  return {
    read: async (ids, call) => await new Promise((resolve, reject) => {
      if (open.size >= waitingMax) throw new Overloaded()
      const one = { ids, call, resolve, reject }
      waiting.push(one)
      open.add(one)
      soon()
    }),
    close: () => clearInterval(sweep)
  }
}

const idsOf = (group: readonly { readonly ids: readonly string[] }[]): readonly string[] => group.length === 1 ? group[0]!.ids : [...new Set(group.flatMap(({ ids }) => ids))]

/** As many as one fetch takes, at least one; and the others. */
function split<Found> (waiting: readonly Waiting<Found>[], idsMax: number): [Waiting<Found>[], Waiting<Found>[]] {
  let taken = 0
  for (let ids = 0; taken < waiting.length; taken++) {
    ids += waiting[taken]!.ids.length
    if (ids > idsMax && taken > 0) break
  }
  return [waiting.slice(0, taken), waiting.slice(taken)]
}

/** Gives its signal when it looks and nobody waits any more; past the deadline MongoDB ends the work by itself, and we keep the connection, unless it says nothing at all. */
function makeLeaving (deadline: number, isAwaited: () => boolean) {
  const leaving = new AbortController()
  return {
    signal: leaving.signal,
    look () {
      const isEnding = Date.now() >= deadline && Date.now() < deadline + graceMs
      if (!isEnding && !isAwaited()) leaving.abort(new Cancelled())
    }
  }
}

// Whoever is gone, or has no time left, costs no fetch, and is told.
function isWanted<Found> (one: Waiting<Found>, fail: (one: Waiting<Found>, error: unknown) => void): boolean {
  if (one.call.gone()) fail(one, new Cancelled())
  else if (one.call.deadline <= Date.now()) fail(one, new DeadlineExceeded())
  else return true
  return false
}
