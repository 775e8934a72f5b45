/** Declares commands: a route, the schema of its input, and the pure rule that decides. */
import type { Static, TObject } from 'typebox'
import type { Aggregate, AnyAggregate } from './aggregate.ts'
import type { EventTypes, Fact, FactOf } from './events.ts'
import type { FactOn, References, SeenOf } from './seen.ts'

/** What a rule may know besides state and input. */
export interface Context<Names extends References = Record<never, never>> {
  readonly id: string
  readonly now: Date
  /** What the command sees, locked like its own aggregate until it is done. */
  readonly seen: SeenOf<Names>
}

export interface Command<State = unknown, Events extends EventTypes = EventTypes, Input extends TObject = TObject, Names extends References = Record<never, never>> {
  readonly method: 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** With `:id`, the aggregate it is for; without, it creates one. */
  readonly url: string
  /** One line for the OpenAPI document. */
  readonly summary: string
  readonly input: Input
  /** Shown in the OpenAPI document, and tried by the conformance suite. */
  readonly example: Static<Input>
  /** The aggregates that the rule has to see beside its own, those of other modules included. Stands before `decide`, which gets its type from here. */
  readonly sees?: (state: State, input: Static<Input>, context: { readonly id: string }) => Names
  /** State and input in, events out (none: nothing changes), or a thrown domain error. All of them are committed together, in this order. */
  readonly decide: (state: State, input: Static<Input>, context: Context<Names>) => readonly (FactOf<Events> | FactOn)[]
}

/** A command bound to its aggregate. */
export interface BoundCommand<Input extends TObject = TObject> extends Omit<Command, 'sees' | 'decide' | 'input' | 'example'> {
  readonly aggregate: AnyAggregate
  readonly input: Input
  readonly example: unknown
  readonly creates: boolean
  readonly sees?: (state: never, input: never, context: { readonly id: string }) => References
  readonly decide: (state: never, input: never, context: Context<any>) => readonly (Fact | FactOn)[]
}

/**
 * Declares a command of an aggregate.
 *
 * @example
 * export const withdrawBook = command(book, {
 *   method: 'DELETE', url: '/books/:id', summary: 'Withdraw a book', input: Type.Object({}), example: {},
 *   decide: (state, _, { id }) => [BookWithdrawn({})]
 * })
 */
export function command<State, Events extends EventTypes, RecordData extends object, Input extends TObject, Names extends References = Record<never, never>> (
  aggregate: Aggregate<State, Events, RecordData>, definition: Command<State, Events, Input, Names>
): BoundCommand<Input> {
  return { ...definition, aggregate, creates: !definition.url.includes(':id') }
}
