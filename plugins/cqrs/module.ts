/** Declares a module, the table of contents of a domain: what each app mounts of it. */
import type { AnyAggregate } from './aggregate.ts'
import type { BoundCommand } from './command.ts'
import type { DomainErrorClass } from './errors.ts'
import type { AnyProcess } from './process.ts'
import type { AnyProjection } from './projection.ts'
import type { AnyQueries, Service } from './query.ts'

/** A named format of strings (JSON Schema `format`), with the sentence that tells what was expected, or what is wrong with a text. */
export interface Format { readonly validate: (text: string) => boolean, readonly message: string | ((text: string) => string) }

export interface Module {
  /** The module's folder, the first part of its routes, the proto package and the prefix of its errors. */
  readonly name: string
  /** One that refers to another in its tables stands behind it: they are made in this order. */
  readonly aggregates: readonly AnyAggregate[]
  readonly commands: Readonly<Record<string, BoundCommand>>
  readonly projections: readonly AnyProjection[]
  readonly processes?: readonly AnyProcess[]
  /** The generated service definition of the queries. */
  readonly service: Service
  readonly queries: AnyQueries
  readonly errors: Readonly<Record<string, DomainErrorClass<never>>>
  readonly formats?: Readonly<Record<string, Format>>
}

/**
 * Declares a module. The commands are mounted by the gateway, the projections by the projector, the queries by the query service.
 *
 * @example
 * export const books = defineModule({ name: 'books', aggregates: [book], commands, projections: [catalogue], service: BookQueryServiceDefinition, queries, errors })
 */
export function defineModule (definition: Module): Module {
  return definition
}

/**
 * The modules that Bifold runs, in the order in which their tables are made: one that refers to another stands behind it.
 *
 * @throws if two of them have something of one name that is known to all: an aggregate, an event, a command, a query or a read model
 * @example
 * export const modules = defineModules([books, lending])
 */
export function defineModules (modules: readonly Module[]): readonly Module[] {
  const names = {
    module: modules.map(({ name }) => name),
    aggregate: modules.flatMap(({ aggregates }) => aggregates.map(({ name }) => name)),
    event: modules.flatMap(({ aggregates }) => aggregates.flatMap(({ events }) => Object.keys(events))),
    command: modules.flatMap(({ commands }) => Object.keys(commands)),
    process: modules.flatMap(({ processes = [] }) => processes.map(({ name }) => name)),
    query: modules.flatMap(({ queries }) => Object.keys(queries)),
    'read model': modules.flatMap(({ projections }) => projections.map(({ collection }) => collection))
  }
  for (const [what, all] of Object.entries(names)) {
    const twice = all.find((name, index) => all.indexOf(name) !== index)
    if (twice !== undefined) throw new Error(`Two modules, or one of them twice, have the ${what} '${twice}'`)
  }
  return modules
}

/**
 * The types of all events that these modules declare, whether a projection of theirs is at work here or not.
 *
 * @example
 * eventTypesOf([books]).has('BookAdded') // true
 */
export const eventTypesOf = (modules: readonly Module[]): ReadonlySet<string> =>
  new Set(modules.flatMap(({ aggregates }) => aggregates.flatMap(({ events }) => Object.keys(events))))
