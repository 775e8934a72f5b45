/** The conformance suite that every module passes: one line in the module's tests. */
import type { Test } from 'tap'
import { compiler } from './validate.ts'
import { faultsIn, read, written, type EventLock, type Example } from './lock.ts'
import type { AnyAggregate } from './aggregate.ts'
import type { Fact } from './events.ts'
import type { Module } from './module.ts'

/**
 * Checks what the compiler cannot: names, schemas, examples, and that an event survives its way through the envelope into each projection.
 *
 * @param lock the module's `events.lock.json`: then old events are read, too. `npm run check` does the same for every module
 * @example
 * import t from 'tap'
 * import lock from './events.lock.json' with { type: 'json' }
 * testModule(t, books, lock)
 */
export function testModule (t: Test, module: Module, lock?: EventLock): void {
  const compile = compiler(module.formats)
  t.test(`module ${module.name} is named after one word`, async t => {
    t.match(module.name, /^[a-z][a-z0-9-]*$/)
    t.equal(module.service.fullName.split('.')[0], module.name, 'the proto package is the module')
    for (const [name, error] of Object.entries(module.errors)) t.ok(error.code.startsWith(`${module.name.toUpperCase()}_`), `${name} has the prefix`)
    for (const [name, { url }] of routes(module)) t.ok(url === `/${module.name}` || /^[/:]/.test(url.slice(module.name.length + 1)), `${name} is below /${module.name}`)
  })
  t.test(`the schemas of ${module.name} are strict and its examples fit`, async t => {
    for (const { name, events } of module.aggregates) {
      for (const [type, { type: own, schema }] of Object.entries(events)) {
        t.match(type, /^[A-Z][A-Za-z]+$/, `${name}: ${type} is PascalCase`)
        t.equal(own, type, `${type} is declared under its own name`)
        t.match(schema, { additionalProperties: false }, `${type} has no unnamed fields`)
        compile(schema)
      }
    }
    for (const [name, command] of Object.entries(module.commands)) {
      t.ok(module.aggregates.includes(command.aggregate), `${name} is for an aggregate of the module`)
      const fits = compile(command.input)
      t.ok(fits(command.example), `the example of ${name} fits`, { errors: fits.errors })
      t.notOk(fits({ ...command.example as object, zzz: 1 }), `${name} refuses unknown fields`)
    }
  })
  t.test(`every RPC of ${module.service.fullName} has a query and every query an RPC`, async t => {
    t.same(Object.keys(module.queries).sort(), Object.keys(module.service.methods).sort())
    for (const { input } of Object.values(module.queries)) compile(input)
  })
  if (lock !== undefined) t.test(`the events of ${module.name} are readable in every version`, async t => t.same(faultsIn(module, lock), []))
  for (const aggregate of module.aggregates) {
    t.test(`a story of ${aggregate.name} goes through the envelope into every projection`, async t => {
      const story = tell(module, aggregate)
      const project = projecting(t, module)
      t.ok(story.length > 0, 'the examples lead to events')
      story.forEach(({ fact, state, before }, index) => {
        t.ok(compile(aggregate.events[fact.type]!.schema)(fact.data), `${fact.type} fits its schema`)
        t.ok(compile(aggregate.recordSchema)(aggregate.record(state)), `the record after ${fact.type} fits its schema`)
        t.same(aggregate.evolve[fact.type](before, fact.data), state, 'evolving twice from one state gives one state')
        const envelope = read(written(aggregate, { fact, record: aggregate.record(state) }, index + 1))
        t.same({ type: envelope.type, data: envelope.data, record: envelope.record }, { type: fact.type, data: fact.data, record: aggregate.record(state) })
        project(envelope)
      })
    })

    t.test(`a projection takes all events of ${aggregate.name}, or none: else nobody knew which version it shows`, async t => {
      const types = Object.keys(aggregate.events)
      for (const { collection, on } of module.projections) {
        const taken = types.filter(type => type in on)
        if (taken.length > 0) t.same(taken, types, collection)
      }
    })

    t.test(`what is unique among ${aggregate.name} is held by a state, and by none before the first event`, async t => {
      const story = tell(module, aggregate)
      for (const [constraint, { value }] of Object.entries(aggregate.store.unique)) {
        t.equal(value(aggregate.initial), undefined, constraint)
        t.ok(story.some(({ state }) => typeof value(state) === 'string'), `the examples show ${constraint}`)
      }
    })
  }
}

/** Hands events to each projection of the module that takes them, with what it has noted before. */
function projecting (t: Test, module: Module) {
  const written = new Map(module.projections.map(({ collection }) => [collection, new Map<string, unknown>()]))
  return (event: { type: string }) => {
    for (const { collection, on, notes = () => [] } of module.projections) {
      if (!(event.type in on)) continue
      const noted = written.get(collection)!
      const seen = notes(event as never)
      const get = (id: string) => {
        t.ok(seen.includes(id), `${collection} names the notes that ${event.type} sees`)
        return noted.get(id) as never
      }
      for (const change of [on[event.type]!(event as never, { get })].flat()) {
        t.match(change, { op: /^(insert|replace|update|remove|note|forget)$/, id: String }, `${collection} takes ${event.type}`)
        if (change.op === 'note') noted.set(change.id, change.doc)
        if (change.op === 'forget') noted.delete(change.id)
      }
    }
  }
}

const routes = (module: Module): [string, { url: string }][] => [...Object.entries(module.commands), ...Object.entries(module.queries)]

/** What the lock of a module is made from: the facts that the commands' examples lead to, and the events' own examples. */
export function examplesOf (module: Module, aggregate: AnyAggregate): Example[] {
  const story = tell(module, aggregate)
  const last = story.at(-1)?.state ?? aggregate.initial
  const own = Object.values(aggregate.events).filter(({ example }) => example !== undefined).map(({ type, example }) => ({ fact: { type, data: example }, state: aggregate.evolve[type](last, example) }))
  return [...story, ...own].map(({ fact, state }) => ({ fact, record: aggregate.record(state) }))
}

// The examples of the commands, one after the other: those that create first, those that end it last.
function tell (module: Module, aggregate: AnyAggregate): { fact: Fact, before: unknown, state: unknown }[] {
  const rank = ({ creates, method }: { creates: boolean, method: string }) => creates ? 0 : method === 'DELETE' ? 2 : 1
  const commands = Object.values(module.commands).filter(command => command.aggregate === aggregate).sort((a, b) => rank(a) - rank(b))
  const context = { id: '019a0000-0000-7000-8000-000000000000', now: new Date('2026-01-01T00:00:00Z') }
  const story: { fact: Fact, before: unknown, state: unknown }[] = []
  let state = freeze(aggregate.initial)
  for (const command of commands) {
    for (const fact of command.decide(state as never, freeze(structuredClone(command.example)) as never, context)) {
      const before = state
      state = freeze(aggregate.evolve[fact.type](before, fact.data))
      story.push({ fact, before, state })
    }
  }
  return story
}

// A rule that changes what it is given throws instead of spoiling somebody else's state.
function freeze<T> (value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(freeze)
  return value
}
