/** Brings events of older versions into today's shape: where they are handed to whoever takes them, and nowhere else. */
import type { Envelope } from './envelope.ts'
import type { AnyEventType } from './events.ts'
import type { Module } from './module.ts'
import type { AnyProjection } from './projection.ts'

/** What has a version: an event with the record after it. */
export type Shaped = Pick<Envelope, 'schemaVersion' | 'data' | 'record'>

/**
 * An event in the shape of a version, today's if none is given; step by step from the one in which it was written.
 *
 * @throws if it was written in a newer version than this code knows; or what a step throws
 * @example
 * upcast(readMessage(message), events.BookAdded).data.authors
 */
export function upcast<Event extends Shaped> (event: Event, type: AnyEventType, to: number = type.version): Event {
  const { schemaVersion: from } = event
  if (from === to) return event
  if (from > to) throw new Error(`${type.type} is of version ${from}, and nobody here knows a newer one than ${to}`)
  let { data, record } = event
  for (let version = from; version < to; version++) {
    const step = type.upcast[version]
    if (step === undefined) throw new Error(`${type.type} has no step from version ${version} to the next`)
    if (step.data !== undefined) data = step.data(data)
    if (step.record !== undefined) record = step.record(record)
  }
  return { ...event, schemaVersion: to, data, record }
}

/** Handlers of events, by their type. */
export type Handlers<Outcome> = Readonly<Record<string, (event: never) => Outcome>>

/** The same handlers, which take these modules' events of every version. */
export function ofEveryVersion<Outcome> (modules: readonly Module[], handlers: Handlers<Outcome>): Handlers<Outcome> {
  const types = new Map(modules.flatMap(({ aggregates }) => aggregates.flatMap(({ events }) => Object.entries(events))))
  return Object.fromEntries(Object.entries(handlers).map(([name, handle]) => {
    const type = types.get(name)
    return [name, type === undefined ? handle : (event: Envelope) => handle(upcast(event, type) as never)]
  }))
}

/**
 * The projections of these modules, which take events of every version. One of a version that nobody here knows makes them throw:
 * then its aggregate waits for a projector that does, as with an event that no module knows.
 *
 * @example
 * projectionsOf([books]).map(({ collection }) => collection) // ['books']
 */
export const projectionsOf = (modules: readonly Module[]): AnyProjection[] =>
  modules.flatMap(({ projections }) => projections.map(projection => ({ ...projection, on: ofEveryVersion(modules, projection.on) })))
