/**
 * Keeps old events readable: the lock of a module has, for each version of each event, its schemas, messages as they were written
 * in it, and what those became when a newer version came. What is locked never changes: it lies in tables and on topics.
 */
import { isDeepStrictEqual } from 'node:util'
import type { AnyAggregate } from './aggregate.ts'
import { messageHeaders, messageValue, readMessage, type Envelope } from './envelope.ts'
import type { AnyEventType, Fact } from './events.ts'
import type { Module } from './module.ts'
import type { AnyProjection, Document } from './projection.ts'
import { projectionsOf, upcast } from './upcast.ts'
import { compiler } from './validate.ts'

/** A message as it was written. */
export interface Written { readonly key: string, readonly headers: Readonly<Record<string, string>>, readonly value: unknown }

/** The parts of an event that have a shape. */
export interface Shape { readonly data: unknown, readonly record: unknown }

export interface LockedVersion {
  readonly task: string
  /** Their schemas, without what is only said to people. */
  readonly schemas: Shape
  readonly written: readonly Written[]
  /** What those that were written in each older version became in this one. */
  readonly arrived: Readonly<Record<string, readonly Shape[]>>
}

/** By type, then by version. */
export type EventLock = Readonly<Record<string, Readonly<Record<string, LockedVersion>>>>

/** A fact for the lock, with the record after it. */
export interface Example { readonly fact: Fact, readonly record: object }

const lockIt = 'Run: npm run generate'
const changed = (type: string, version: number, what: string) => `${type}: ${what} is not what is locked for version ${version}. Events of that version lie in tables and on topics, so that it stays: ` +
  `declare version ${version + 1} of ${type} with a step \`upcast: { ${version}: … }\` from it, and run: npm run generate. (Only if version ${version} was never released: take it out of the lock, and run that.)`

/**
 * What is wrong with a module's events, as sentences that tell what to do: a changed schema without a new version, a step that is
 * missing or does something else than before, an old event that does not fit today's schema or that a projection does not take.
 *
 * @param projections those that are tried with the old events, in the order in which the module declares them; what they note they find again
 */
export function faultsIn (module: Module, lock: EventLock, projections = projectionsOf([module])): string[] {
  const compile = compiler(module.formats)
  const tried = projections.map(tryOut)
  const declared = new Set(module.aggregates.flatMap(({ events }) => Object.keys(events)))
  const gone = Object.keys(lock).filter(type => !declared.has(type)).map(type => `${type} is locked and not declared any more: what was written of it could not be read. Declare it, though no command makes it now`)
  return [...gone, ...module.aggregates.flatMap(aggregate => Object.values(aggregate.events).flatMap(type => {
    const locked = lock[type.type] ?? {}
    const first = [...stepFaults(type), ...lockFaults(type, aggregate, locked)]
    if (first.length > 0) return first
    const fits = { data: compile(type.schema), record: compile(aggregate.recordSchema) }
    return before(type.version + 1).flatMap(version => locked[version]!.written.flatMap((written, index) => {
      const name = `${type.type}: message ${index + 1} of version ${version}`
      try {
        const event = read(written)
        if (event.type !== type.type || event.schemaVersion !== version) return [`${name} is of version ${event.schemaVersion} of ${event.type}`]
        return [
          ...arrivalFaults(type, locked, event, index).map(fault => `${name} ${fault}`),
          ...shapeFaults(upcast(event, type), fits).map(fault => `${name} ${fault}`),
          ...tried.flatMap(({ collection, takes }) => takes(event) ? [] : [`${name} is not taken by the projection ${collection}`])
        ]
      } catch (error) {
        return [`${name} is not read: ${(error as Error).message}`]
      }
    }))
  }))]
}

/**
 * The lock with what is missing: today's versions, and what became of messages that were put into it by hand. What is there stays.
 *
 * @param examples the facts that are written down of a version that is new; each of its events needs one
 * @throws if an event that is to be locked has no example
 */
export function locked (module: Module, lock: EventLock, examples: (aggregate: AnyAggregate) => readonly Example[]): EventLock {
  const added = module.aggregates.flatMap(aggregate => {
    const found = examples(aggregate)
    return Object.values(aggregate.events).map(type => [type.type, withToday(type, aggregate, lock[type.type] ?? {}, found)] as const)
  })
  return { ...lock, ...Object.fromEntries(added) }
}

/** A message as the relay would send it. */
export function written (aggregate: AnyAggregate, { fact, record }: Example, version: number): Written {
  const key = '019a0000-0000-7000-8000-000000000000'
  const { task, version: schemaVersion } = aggregate.events[fact.type]!
  const value = JSON.stringify(messageValue(task, key, version, record, fact))
  const row = { aggregate: aggregate.name, aggregateId: key, version, type: fact.type, schemaVersion, value, requestId: 'r', traceparent: '', time: '2026-01-01T00:00:00.000Z' }
  return { key, headers: messageHeaders(row, '0'), value: JSON.parse(value) }
}

export const read = ({ key, headers, value }: Written): Envelope => readMessage({ key: Buffer.from(key), value: Buffer.from(JSON.stringify(value)), headers })

/** 1, 2 … up to the one before. */
const before = (version: number): number[] => Array.from({ length: version - 1 }, (_, index) => index + 1)

function stepFaults ({ type, version, upcast }: AnyEventType): string[] {
  const wanted = before(version)
  return [
    ...wanted.filter(from => upcast[from] === undefined).map(from => `${type}: the step from version ${from} to ${from + 1} is missing in its \`upcast\``),
    ...Object.keys(upcast).filter(from => !wanted.includes(Number(from))).map(from => `${type}: a step from version ${from} leads to none, since the version is ${version}`)
  ]
}

function lockFaults (type: AnyEventType, aggregate: AnyAggregate, locked: EventLock[string]): string[] {
  const { version, task } = type
  const missing = before(version + 1).filter(version => (locked[version]?.written.length ?? 0) === 0)
  if (missing.length > 0) return missing.map(version => `${type.type}: version ${version} is not locked, or without a message. ${lockIt}`)
  const newest = Math.max(...Object.keys(locked).map(Number))
  if (newest > version) return [`${type.type} is locked up to version ${newest}, and declared with version ${version}: a version does not go back`]
  const now = locked[version]!
  return [
    ...task === now.task ? [] : [changed(type.type, version, 'its task')],
    ...isDeepStrictEqual(canonical(type.schema), now.schemas.data) ? [] : [changed(type.type, version, 'the schema of its data')],
    ...isDeepStrictEqual(canonical(aggregate.recordSchema), now.schemas.record) ? [] : [changed(type.type, version, 'the schema of the record after it')]
  ]
}

/** Each newer version has what a message became in it: a step that was changed since shows here. */
function arrivalFaults (type: AnyEventType, locked: EventLock[string], event: Envelope, index: number): string[] {
  return before(type.version + 1).filter(to => to > event.schemaVersion).flatMap(to => {
    const arrived = locked[to]!.arrived[event.schemaVersion]?.[index]
    if (arrived === undefined) return [`has nothing to compare with in version ${to}. ${lockIt}`]
    const now = shapeOf(upcast(event, type, to))
    return isDeepStrictEqual(now, arrived) ? [] : [`becomes ${JSON.stringify(now)} in version ${to}, and became ${JSON.stringify(arrived)} when that was locked: what a step does must not change`]
  })
}

function shapeFaults (event: Envelope, fits: Record<keyof Shape, ReturnType<ReturnType<typeof compiler>>>): string[] {
  return (['data', 'record'] as const).flatMap(part => fits[part](event[part]) ? [] : [`does not fit today's schema of its ${part}: ${fits[part].errors!.map(({ instancePath, message }) => `${instancePath} ${message}`).join(', ')}`])
}

/** A projection that is shown one event after the other, with its notes in memory. */
function tryOut ({ collection, on, notes = () => [] }: AnyProjection) {
  const noted = new Map<string, Document>()
  return {
    collection,
    /** False if what its handler returns are no changes. @throws what the handler throws, or if it looks at a note that it has not named */
    takes (event: Envelope): boolean {
      if (!Object.hasOwn(on, event.type)) return true
      const named = notes(event as never)
      const get = (id: string) => {
        if (!named.includes(id)) throw new Error(`the projection ${collection} does not name the note ${id} that it looks at`)
        return noted.get(id) as never
      }
      const changes = [on[event.type]!(event as never, { get })].flat()
      for (const change of changes) {
        if (typeof (change as { id?: unknown } | undefined)?.id !== 'string') return false
        // What is forgotten stays: the lock has the end of an aggregate in each version, and all messages have one id.
        if (change.op === 'note') noted.set(change.id, change.doc)
      }
      return true
    }
  }
}

function withToday (type: AnyEventType, aggregate: AnyAggregate, found: EventLock[string], examples: readonly Example[]): EventLock[string] {
  const versions = { ...found }
  versions[type.version] ??= {
    task: type.task,
    schemas: { data: canonical(type.schema), record: canonical(aggregate.recordSchema) },
    written: examples.map((example, index) => [example, index + 1] as const).filter(([{ fact }]) => fact.type === type.type).map(([example, version]) => written(aggregate, example, version)),
    arrived: {}
  }
  if (versions[type.version]!.written.length === 0) throw new Error(`No command's example leads to ${type.type}: give it one, event('${type.type}', …, { example: … })`)
  return Object.fromEntries(Object.entries(versions).map(([to, version]) => {
    const arrived = before(Number(to)).map(from => [from, (versions[from]?.written ?? []).map((message, index) => version.arrived[from]?.[index] ?? shapeOf(upcast(read(message), type, Number(to))))])
    return [to, { ...version, arrived: Object.fromEntries(arrived) }]
  }))
}

/** As JSON has it. */
const shapeOf = ({ data, record }: Shape): Shape => JSON.parse(JSON.stringify({ data, record }))

const forPeople = new Set(['title', 'description', 'example', 'examples', '$comment', 'deprecated', 'x-message'])
const ofNames = new Set(['properties', 'patternProperties', '$defs', 'dependentSchemas']) // their keys are names, and none of them is for people

/** A schema in one form, whatever the order in which it was written. */
export function canonical (schema: object): unknown {
  const plain = (value: unknown, names: boolean): unknown => {
    if (Array.isArray(value)) return value.map(one => plain(one, false))
    if (typeof value !== 'object' || value === null) return value
    const kept = Object.entries(value).filter(([key]) => names || !forPeople.has(key)).sort(([a], [b]) => a < b ? -1 : 1)
    return Object.fromEntries(kept.map(([key, of]) => [key, key === 'required' && !names ? (of as string[]).toSorted() : plain(of, !names && ofNames.has(key))]))
  }
  return plain(JSON.parse(JSON.stringify(schema)), false)
}
