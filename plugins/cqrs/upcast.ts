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
export type Handlers<Event, More extends unknown[], Outcome> = Readonly<Record<string, (event: Event, ...more: More) => Outcome>>

/** The same handlers, which take these modules' events of every version. */
export const ofEveryVersion = <More extends unknown[], Outcome>(modules: readonly Module[], handlers: Handlers<never, More, Outcome>): Handlers<Envelope, More, Outcome> =>
  withEach(bringing(modules), handlers)

/**
 * The projections of these modules, which take events of every version. One of a version that nobody here knows makes them throw:
 * then its aggregate waits for a projector that does, as with an event that no module knows.
 *
 * @example
 * projectionsOf([books]).map(({ collection }) => collection) // ['books']
 */
export function projectionsOf (modules: readonly Module[]): AnyProjection[] {
  const today = bringing(modules)
  return modules.flatMap(({ projections }) => projections.map(({ notes, ...projection }) =>
    ({ ...projection, ...notes && { notes: notesOf(today, notes) }, on: withEach(today, projection.on) })))
}

const withEach = <More extends unknown[], Outcome>(today: (event: Envelope) => Envelope, handlers: Handlers<never, More, Outcome>): Handlers<Envelope, More, Outcome> =>
  Object.fromEntries(Object.entries(handlers).map(([type, handle]) => [type, (event: Envelope, ...more: More) => handle(today(event) as never, ...more)]))

/** An event that cannot be brought into today's shape needs no notes: its handler tells so. */
const notesOf = (today: (event: Envelope) => Envelope, notes: NonNullable<AnyProjection['notes']>) => (event: Envelope): readonly string[] => {
  let now: Envelope
  try {
    now = today(event)
  } catch {
    return []
  }
  return notes(now as never)
}

/** Brings the events of these modules into today's shape; a stranger's stays as it is. */
function bringing (modules: readonly Module[]): (event: Envelope) => Envelope {
  const types = new Map(modules.flatMap(({ aggregates }) => aggregates.flatMap(({ events }) => Object.entries(events))))
  return event => {
    const type = types.get(event.type)
    return type === undefined ? event : upcast(event, type)
  }
}
