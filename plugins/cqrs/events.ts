/** Declares events: past-tense facts, each with the schema of its data, the task it means for a plain consumer, and how older versions become today's. */
import type { Static, TSchema } from 'typebox'

/** What a plain consumer does with the message's `data`: insert, update or delete one record. */
export type Task = 'insert' | 'update' | 'delete'

/** An event as a rule returns it. */
export interface Fact<Type extends string = string, Data = unknown> { readonly type: Type, readonly data: Data }

/**
 * A step from one version of an event to the next: pure functions from the older shape to the newer one; what is left out stays as
 * it was. `any`, since the older shapes have no schema any more: the corpus of old events tries the functions (lock.ts).
 */
export interface Upcaster<Data = any> {
  readonly data?: (data: any) => Data
  /** Of the whole record, which is what a message has in its `data` beside id and version. */
  readonly record?: (record: any) => object
}

/** A step for each version before this one, by the version that it begins with; the last one ends in today's data. */
export type Upcasters<Version extends number, Data, Seen extends unknown[] = [unknown], Steps = unknown> = Seen['length'] extends Version
  ? Steps
  : Upcasters<Version, Data, [...Seen, unknown], Steps & { readonly [From in Seen['length'] & number]: Upcaster<[...Seen, unknown]['length'] extends Version ? Data : any> }>

/** What an event type may have besides. */
export interface EventOptions<Data> {
  /** For the corpus of old events, where no command's example leads to this event. */
  readonly example?: Data
}

/** Makes facts of one type, and carries what is to be known of it. */
export interface EventType<Type extends string = string, Schema extends TSchema = TSchema> extends Described {
  (data: Static<Schema>): Fact<Type, Static<Schema>>
  readonly type: Type
  readonly schema: Schema
}

interface Described {
  readonly task: Task
  /** Of its shape: of the data and of the record after it. 1 for an event that never changed. */
  readonly version: number
  readonly upcast: Readonly<Record<number, Upcaster>>
  readonly example?: unknown
}

/** Any event type: `never` as the parameter, because functions are contravariant in theirs. */
export interface AnyEventType extends Described { (data: never): Fact, readonly type: string, readonly schema: TSchema }

/** The events of an aggregate, by their type. */
export type EventTypes = Record<string, AnyEventType>

/** The data of one event type. */
export type DataOf<E extends AnyEventType> = ReturnType<E>['data']

/** The union of an aggregate's facts, derived from its event types. */
export type FactOf<Events extends EventTypes> = { [Type in keyof Events]: ReturnType<Events[Type]> }[keyof Events]

/**
 * Declares an event. Its shape is that of its data and of the record after it: whoever changes the one or the other raises the
 * version, and says how an event of the version before becomes one of the new.
 *
 * @param type its name, the same as the constant's
 * @param task what it means for a consumer that only keeps records
 * @param schema the schema of its data, as it is today
 * @param options `version` and `upcast`, with a step from each version to the next; `example`
 * @example
 * export const BookWithdrawn = event('BookWithdrawn', 'delete', Type.Object({}))
 * return [BookWithdrawn({})]
 * @example
 * const inList = ({ author, ...rest }: { author: string }) => ({ ...rest, authors: [author] })
 * export const BookAdded = event('BookAdded', 'insert', BookDetails, { version: 2, upcast: { 1: { data: inList, record: inList } } })
 */
export function event<const Type extends string, Schema extends TSchema> (type: Type, task: Task, schema: Schema, options?: EventOptions<Static<Schema>>): EventType<Type, Schema>
export function event<const Type extends string, Schema extends TSchema, const Version extends number> (
  type: Type, task: Task, schema: Schema, options: EventOptions<Static<Schema>> & { readonly version: Version, readonly upcast: Upcasters<Version, Static<Schema>> }
): EventType<Type, Schema>
export function event<const Type extends string, Schema extends TSchema> (
  type: Type, task: Task, schema: Schema, { version = 1, upcast = {}, ...options }: EventOptions<unknown> & { version?: number, upcast?: any } = {}
): EventType<Type, Schema> {
  const make = (data: Static<Schema>): Fact<Type, Static<Schema>> => ({ type, data })
  return Object.assign(make, { type, task, schema, version, upcast, ...options })
}
