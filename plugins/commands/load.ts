/** Locks and loads what a group of commands is about: the own aggregate of each, and those that it sees. */
import type { AnyAggregate, Reference, Seen, Versioned } from '@bifold/cqrs'
import type { Db } from '@bifold/postgres'
import type { Request } from './request.ts'

/** The aggregates of a group as they are now, by their ids; later commands of the group see the changes of earlier ones. */
export type States = Map<AnyAggregate, Map<string, Versioned<unknown>>>

/** A command refers to what was not loaded, since its own aggregate has changed meanwhile. To PostgreSQL's code for the same: the next attempt sees the change. */
export class Unforeseen extends Error {
  readonly code = '40001'
}

type Ids = Map<AnyAggregate, Set<string>>

export async function loadStates (tx: Db, requests: readonly Request[]): Promise<States> {
  const wanted = ownIds(requests)
  const seen = await references(tx, requests)
  for (const { aggregate, id } of seen) add(wanted, aggregate, id)
  const states: States = new Map()
  // By name, so that two gateways lock in one order.
  for (const [aggregate, ids] of [...wanted].sort(([a], [b]) => a.name < b.name ? -1 : 1)) states.set(aggregate, await load(tx, aggregate, ids, { lock: true }))
  for (const { aggregate, id } of seen) {
    if (!states.get(aggregate)!.has(id)) states.get(aggregate)!.set(id, unborn(aggregate, id))
  }
  return states
}

/** An aggregate without any event. */
export const unborn = (aggregate: AnyAggregate, id: string): Versioned<unknown> => ({ id, version: 0, state: aggregate.initial })

const nothing = {}

/**
 * @returns what the rule of a command sees
 * @throws Unforeseen
 */
export function see ({ command: { sees }, id, input }: Request, state: unknown, states: States): Readonly<Record<string, Seen<unknown, never>>> {
  if (sees === undefined) return nothing
  return Object.fromEntries(Object.entries(sees(state as never, input as never, { id })).map(([name, reference]) => [name, { ...reference, ...seenOf(reference, states) } as never]))
}

function seenOf ({ aggregate, id }: Reference, states: States): Versioned<unknown> {
  if (id === '') return unborn(aggregate, id)
  const found = states.get(aggregate)?.get(id)
  if (found === undefined) throw new Unforeseen(`${aggregate.name} ${id} was not loaded`)
  return found
}

function ownIds (requests: readonly Request[]): Ids {
  const ids: Ids = new Map()
  for (const { command: { aggregate, creates }, id } of requests) add(ids, aggregate, creates ? undefined : id)
  return ids
}

function add (ids: Ids, aggregate: AnyAggregate, id: string | undefined): void {
  if (!ids.has(aggregate)) ids.set(aggregate, new Set())
  if (id !== undefined) ids.get(aggregate)!.add(id)
}

/** What the commands refer to. They may find it by the state of their own aggregate: that is read without a lock, since locks are taken in one order only, and found to be current or not when it is locked. */
async function references (tx: Db, requests: readonly Request[]): Promise<Reference[]> {
  const seeing = requests.filter(({ command: { sees } }) => sees !== undefined)
  if (seeing.length === 0) return []
  const states: States = new Map()
  for (const [aggregate, ids] of ownIds(seeing)) states.set(aggregate, await load(tx, aggregate, ids, { lock: false }))
  return seeing.flatMap(({ command: { aggregate, sees }, id, input }) =>
    Object.values(sees!((states.get(aggregate)!.get(id)?.state ?? aggregate.initial) as never, input as never, { id })).filter(({ id }) => id !== ''))
}

async function load (tx: Db, { store }: AnyAggregate, ids: ReadonlySet<string>, options: { lock: boolean }): Promise<Map<string, Versioned<unknown>>> {
  const loaded = ids.size === 0 ? [] : await store.load(tx as never, [...ids], options)
  return new Map(loaded.map(state => [state.id, state]))
}
