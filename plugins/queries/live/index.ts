/** The queries that are watched, of all modules in one process: what each is told, and the bounds that they share. */
import { compiler, fieldErrors, invalidInput, TooManyWatchers, WatcherTooSlow, type AnyWatch, type Message, type Module, type News } from '@bifold/cqrs'
import type { Db, Document } from 'mongodb'
import { deadlineMs, type Call } from '../call.ts'
import { makeHub, type Hub } from './hub.ts'
import { matcher } from './pending.ts'
import { makeSinks, type Outlet } from './sink.ts'
import { makeTurn } from './turn.ts'
import { watch } from './watcher.ts'
import { fingerprint } from '../opaque.ts'

/** Writes news as bytes of one transport: with the RPC's message, and what makes one of it. */
export type Format = (type: Message<unknown>, message: (news: News<never>) => unknown) => (news: News<never>) => Uint8Array

/** One who is to watch until the signal is given, from where the read model shows what the consistency tokens name. */
export interface Visit { readonly tokens: readonly string[], readonly signal: AbortSignal }

/** Watches for one client, and rejects with the reason for which it ends. */
export type Watch = (request: unknown, outlet: Outlet, visit: Visit) => Promise<never>

/** How the queries of one name are told, and when they may begin. */
export interface Manner {
  readonly name: string
  readonly format: Format
  /** Resolves when the read model shows what the tokens name; rejects as a read does. */
  readonly reached: (tokens: readonly string[], call: Pick<Call, 'deadline' | 'onEnd'>) => Promise<void>
}

export interface Watches {
  /** The watching function of a query. */
  of (module: Module, name: string, query: AnyWatch, manner: Manner): Watch
  /** How many watch now. */
  readonly count: number
  /** How many were ended since they did not take what they were told. */
  readonly tooSlow: number
  /** How old the newest change is that the watchers of a read model have been told, at the moment when they were. */
  readonly lagSeconds: number
  close (): Promise<void>
}

const watchersMax = 2000 // of one process; an idle one takes some 30 KB with its stream
const turnsMax = 10 // snapshots and stretches that were missed, read at once; each has a connection

/** @param db over connections that nobody else takes: one for each read model, and one for each turn */
export function makeWatches (db: Db): Watches {
  const sinkOf = makeSinks()
  const turn = makeTurn(turnsMax)
  const hubs = new Map<string, Hub>()
  let [count, tooSlow] = [0, 0]
  const hubOf = (collection: string): Hub => {
    const hub = hubs.get(collection) ?? makeHub(db, collection, () => count)
    hubs.set(collection, hub)
    return hub
  }
  return {
    get count () { return count },
    get tooSlow () { return tooSlow },
    get lagSeconds () { return Math.max(0, ...[...hubs.values()].map(({ feed }) => feed.lagSeconds)) },
    of (module, name, { input, watch: { view, where, resumeField, message } }, { name: formatName, format, reached }) {
      const fits = compiler(module.formats)(input)
      const encode = format(module.service.methods[name]!.responseType, message)
      return async (request, outlet, { tokens, signal }) => {
        if (!fits(request)) throw invalidInput('request', fieldErrors(fits.errors))
        if (count >= watchersMax) throw new TooManyWatchers()
        const filter = where(request as never)
        const watched = fingerprint(view, filter)
        const subject = { fingerprint: watched, group: `${name} ${formatName} ${watched}`, where: filter, matches: matcher(filter), encode: encode as (news: News<Document>) => Uint8Array }
        const sink = sinkOf(outlet)
        count++
        try {
          await reached(tokens, { deadline: Date.now() + deadlineMs, onEnd: listener => signal.addEventListener('abort', listener, { once: true }) })
          return await watch({ hub: hubOf(view), subject, sink, signal, turn }, String((request as Record<string, unknown>)[resumeField]))
        } catch (error) {
          if (error instanceof WatcherTooSlow) tooSlow++
          throw error
        } finally {
          count--
          sink.close()
        }
      }
    },
    async close () { await Promise.all([...hubs.values()].map(async hub => await hub.close())) }
  }
}
