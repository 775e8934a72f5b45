/** Declares commands: a route, the schema of its input, and the pure rule that decides. */
import type { Static, TObject } from 'typebox'
import type { Aggregate, AnyAggregate } from './aggregate.ts'
import type { EventTypes, FactOf } from './events.ts'

/** What a rule may know besides state and input. */
export interface Context { readonly id: string, readonly now: Date }

export interface Command<State = unknown, Events extends EventTypes = EventTypes, Input extends TObject = TObject> {
  readonly method: 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** With `:id`, the aggregate it is for; without, it creates one. */
  readonly url: string
  /** One line for the OpenAPI document. */
  readonly summary: string
  readonly input: Input
  /** Shown in the OpenAPI document, and tried by the conformance suite. */
  readonly example: Static<Input>
  /** State and input in, events out (none: nothing changes), or a thrown domain error. */
  readonly decide: (state: State, input: Static<Input>, context: Context) => readonly FactOf<Events>[]
}

/** A command bound to its aggregate. */
export interface BoundCommand<Input extends TObject = TObject> extends Omit<Command, 'decide' | 'input' | 'example'> {
  readonly aggregate: AnyAggregate
  readonly input: Input
  readonly example: unknown
  readonly creates: boolean
  readonly decide: (state: never, input: never, context: Context) => readonly { type: string, data: unknown }[]
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
export function command<State, Events extends EventTypes, RecordData extends object, Input extends TObject> (
  aggregate: Aggregate<State, Events, RecordData>, definition: Command<State, Events, Input>
): BoundCommand<Input> {
  return { ...definition, aggregate, creates: !definition.url.includes(':id') }
}
