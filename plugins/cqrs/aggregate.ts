/** Declares an aggregate: its events, its state, how the one changes the other, and where the state is stored. */
import type { TSchema } from 'typebox'
import type { EventTypes, DataOf, FactOf } from './events.ts'
import type { Store } from './store.ts'

/** One pure function for each event: the state before and the event's data in, the state after out. */
export type Evolve<State, Events extends EventTypes> = { readonly [Type in keyof Events]: (state: State, data: DataOf<Events[Type]>) => State }

export interface Aggregate<State, Events extends EventTypes, RecordData extends object> {
  /** Names the table, the read collection and the message's source: a plural noun, such as `books`. */
  readonly name: string
  readonly events: Events
  /** The state of an aggregate that has no event yet. */
  readonly initial: State
  readonly evolve: Evolve<State, Events>
  /** What others see of a state: the message's `data`, beside `id` and `version`. */
  readonly record: (state: State) => RecordData
  /** The record's schema: who changes it raises the version of each event. */
  readonly recordSchema: TSchema
  readonly store: Store<State>
}

/** Any aggregate, where its types do not matter. `any` because a state is both an input and an output of its functions. */
export interface AnyAggregate {
  readonly name: string
  readonly events: EventTypes
  readonly initial: any
  readonly evolve: any
  readonly record: (state: any) => object
  readonly recordSchema: TSchema
  readonly store: Store<any>
}

/**
 * An event as it was committed: the fact with its place in the aggregate's history.
 * `record` is the whole record after the event; `time` is when the command was executed.
 */
export interface Recorded<F extends { type: string, data: unknown } = { type: string, data: unknown }, RecordData = unknown> {
  readonly type: F['type']
  readonly data: F['data']
  readonly id: string
  readonly version: number
  readonly record: RecordData
  readonly time: Date
}

/** The union of an aggregate's committed events. */
export type EventOf<A> = A extends Aggregate<any, infer Events, infer RecordData>
  ? { [Type in keyof Events]: Recorded<FactOf<Pick<Events, Type>>, RecordData> }[keyof Events]
  : never

/**
 * Declares an aggregate.
 *
 * @example
 * export const book = aggregate<Book, typeof events, BookDetails>({ name: 'books', events, initial, evolve, record: state => state.details, recordSchema: BookDetails, store })
 */
export function aggregate<State, Events extends EventTypes, RecordData extends object> (
  definition: Aggregate<State, Events, RecordData>
): Aggregate<State, Events, RecordData> {
  return definition
}
