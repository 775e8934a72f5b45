/** Declares events: past-tense facts, each with the schema of its data and the task it means for a plain consumer. */
import type { Static, TSchema } from 'typebox'

/** What a plain consumer does with the message's `data`: insert, update or delete one record. */
export type Task = 'insert' | 'update' | 'delete'

/** An event as a rule returns it. */
export interface Fact<Type extends string = string, Data = unknown> { readonly type: Type, readonly data: Data }

/** Makes facts of one type, and carries the type's schema and task. */
export interface EventType<Type extends string = string, Schema extends TSchema = TSchema> {
  (data: Static<Schema>): Fact<Type, Static<Schema>>
  readonly type: Type
  readonly task: Task
  readonly schema: Schema
}

// Any event type: `never` as the parameter, because functions are contravariant in theirs.
interface AnyEventType { (data: never): Fact, readonly type: string, readonly task: Task, readonly schema: TSchema }

/** The events of an aggregate, by their type. */
export type EventTypes = Record<string, AnyEventType>

/** The data of one event type. */
export type DataOf<E extends AnyEventType> = ReturnType<E>['data']

/** The union of an aggregate's facts, derived from its event types. */
export type FactOf<Events extends EventTypes> = { [Type in keyof Events]: ReturnType<Events[Type]> }[keyof Events]

/**
 * Declares an event.
 *
 * @param type its name, the same as the constant's
 * @param task what it means for a consumer that only keeps records
 * @param schema the schema of its data
 * @example
 * export const BookWithdrawn = event('BookWithdrawn', 'delete', Type.Object({}))
 * return [BookWithdrawn({})]
 */
export function event<const Type extends string, Schema extends TSchema> (type: Type, task: Task, schema: Schema): EventType<Type, Schema> {
  const make = (data: Static<Schema>): Fact<Type, Static<Schema>> => ({ type, data })
  return Object.assign(make, { type, task, schema })
}
