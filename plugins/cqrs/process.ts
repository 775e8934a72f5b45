/** Declares processes: which commands an event leads to, also on other aggregates and in another module than the event's. */
import type { Static, TObject } from 'typebox'
import type { Aggregate } from './aggregate.ts'
import type { BoundCommand } from './command.ts'
import type { Module } from './module.ts'
import type { Reference } from './seen.ts'

/** Whoever holds a value that one aggregate at most may hold. */
export interface Holder { readonly aggregate: Aggregate<any, any, any>, readonly constraint: string, readonly value: string }

/** A command that is to be executed, and the aggregate that it is for; none for one that creates. */
export interface Asked { readonly command: BoundCommand, readonly of: Reference | Holder | undefined, readonly input: unknown }

export interface Process<Event extends { type: string }> {
  /** Known to all modules, and for ever: what it has still to do is kept under this name. */
  readonly name: string
  /** Pure: the commands that an event leads to, in their order. Each is executed exactly once; one that is refused is passed over, and nobody to be found for one is no fault. */
  readonly on: { readonly [Type in Event['type']]?: (event: Extract<Event, { type: Type }>) => readonly Asked[] }
}

/** Any process, where its types do not matter. */
export interface AnyProcess { readonly name: string, readonly on: Readonly<Record<string, ((event: never) => readonly Asked[]) | undefined>> }

/**
 * Declares a process.
 *
 * @example
 * export const recalls = process<BookEvent>({
 *   name: 'recall-withdrawn',
 *   on: { BookWithdrawn: ({ id }) => [ask(recallLoan, holder(loan, 'loans_open_unique', id), {})] }
 * })
 */
export function process<Event extends { type: string }> (definition: Process<Event>): AnyProcess {
  return definition as AnyProcess
}

/** Asks for a command: of the aggregate with an id (`one`), of whoever holds a value (`holder`), or of a new one. */
export const ask = <Input extends TObject>(command: BoundCommand<Input>, of: Reference | Holder | undefined, input: Static<Input>): Asked =>
  ({ command: command as unknown as BoundCommand, of, input })

/** @param constraint the name in the store's `unique`, which has a `holder` */
export const holder = (aggregate: Aggregate<any, any, any>, constraint: string, value: string): Holder => ({ aggregate, constraint, value })

export const processesOf = (modules: readonly Module[]): AnyProcess[] => modules.flatMap(({ processes = [] }) => processes)

/** The names of the processes that an event of each type is for. */
export function processesByType (modules: readonly Module[]): ReadonlyMap<string, readonly string[]> {
  const names = new Map<string, string[]>()
  for (const { name, on } of processesOf(modules)) {
    for (const type of Object.keys(on)) names.set(type, [...names.get(type) ?? [], name])
  }
  return names
}
