/** Tells stories with the examples of commands: what happens if they are done one after the other. For the conformance suite. */
import type { AnyAggregate } from './aggregate.ts'
import type { BoundCommand } from './command.ts'
import { isDomainError } from './errors.ts'
import type { Fact } from './events.ts'
import type { Module } from './module.ts'
import type { FactOn } from './seen.ts'
import type { Versioned } from './store.ts'

/** One event of a story, with the states before and after it. */
export interface Step {
  readonly command: BoundCommand
  readonly aggregate: AnyAggregate
  readonly id: string
  readonly version: number
  readonly fact: Fact
  readonly before: unknown
  readonly state: unknown
}

type World = Map<AnyAggregate, Map<string, Versioned<unknown>>>

/** All that creates comes first, in an order in which it is not refused; then nothing, or any other command, or any two. */
export function stories (modules: readonly Module[]): Step[][] {
  const commands = modules.flatMap(({ commands }) => Object.values(commands))
  const others = commands.filter(({ creates }) => !creates)
  const ends = [[], ...others.map(only => [only]), ...others.flatMap(first => others.map(second => [first, second]))]
  const ids = idsOf(commands)
  return ends.map(end => {
    const world: World = new Map()
    const steps = begin(world, commands.filter(({ creates }) => creates), ids)
    for (const command of end) steps.push(...ids.get(command.aggregate)!.flatMap(id => act(world, command, id)))
    return steps
  })
}

/** The ids under which the examples look for each aggregate; any, if they do not. */
function idsOf (commands: readonly BoundCommand[]): Map<AnyAggregate, string[]> {
  const ids = new Map<AnyAggregate, string[]>()
  for (const { aggregate, sees, example } of commands) {
    for (const { aggregate: seen, id } of Object.values(sees?.(aggregate.initial as never, example as never, { id: '' }) ?? {})) {
      if (id !== '') ids.set(seen, [...new Set([...ids.get(seen) ?? [], id])])
    }
  }
  for (const { aggregate } of commands) if (!ids.has(aggregate)) ids.set(aggregate, [`019a0000-0000-7000-8000-${(ids.size + 1).toString(16).padStart(12, 'f')}`])
  return ids
}

function begin (world: World, creating: readonly BoundCommand[], ids: ReadonlyMap<AnyAggregate, string[]>): Step[] {
  let left = creating.flatMap(command => ids.get(command.aggregate)!.map(id => ({ command, id })))
  const steps: Step[] = []
  while (left.length > 0) {
    const still = left.filter(({ command, id }) => {
      const made = act(world, command, id)
      steps.push(...made)
      return made.length === 0
    })
    if (still.length === left.length) break
    left = still
  }
  return steps
}

const at = (world: World, aggregate: AnyAggregate, id: string): Versioned<unknown> =>
  world.get(aggregate)?.get(id) ?? { id, version: 0, state: freeze(aggregate.initial) }

/** The events of one command; none, if it is refused. */
function act (world: World, command: BoundCommand, id: string): Step[] {
  const own = at(world, command.aggregate, id).state as never
  const input = freeze(structuredClone(command.example)) as never
  const seen = Object.fromEntries(Object.entries(command.sees?.(own, input, { id }) ?? {}).map(([name, reference]) =>
    [name, { ...reference, ...at(world, reference.aggregate, reference.id) }]))
  return decided(() => command.decide(own, input, { id, now: new Date('2026-01-01T00:00:00Z'), seen })).map(fact => {
    const of = 'on' in fact ? fact.on : { aggregate: command.aggregate, id }
    const { version, state: before } = at(world, of.aggregate, of.id)
    const after = { id: of.id, version: version + 1, state: freeze(of.aggregate.evolve[fact.type](before, fact.data)) }
    if (!world.has(of.aggregate)) world.set(of.aggregate, new Map())
    world.get(of.aggregate)!.set(of.id, after)
    return { command, aggregate: of.aggregate, id: of.id, version: after.version, fact, before, state: after.state }
  })
}

function decided (decide: () => readonly (Fact | FactOn)[]): readonly (Fact | FactOn)[] {
  try {
    return decide()
  } catch (error) {
    if (isDomainError(error)) return []
    throw error
  }
}

// A rule that changes what it is given throws instead of spoiling somebody else's state.
function freeze<T> (value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(freeze)
  return value
}
