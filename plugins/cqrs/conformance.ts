/** The conformance suite that every module passes: one line in the module's tests. */
import type { Test } from 'tap'
import { compiler } from './validate.ts'
import { faultsIn, read, written, type EventLock, type Example } from './lock.ts'
import { stories, type Step } from './stories.ts'
import type { AnyAggregate } from './aggregate.ts'
import type { Module } from './module.ts'

export { stories }

/**
 * Checks what the compiler cannot: names, schemas, examples, and that an event survives its way through the envelope into each projection.
 *
 * @param lock the module's `events.lock.json`: then old events are read, too. `npm run check` does the same for every module
 * @param others the modules whose aggregates its commands see, or whose events its projections take
 * @example
 * import t from 'tap'
 * import lock from './events.lock.json' with { type: 'json' }
 * testModule(t, lending, lock, [books])
 */
export function testModule (t: Test, module: Module, lock?: EventLock, others: readonly Module[] = []): void {
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
  const told = stories([module, ...others])
  t.test(`the stories of ${module.name} go through the envelope into every projection`, async t => {
    for (const { name, events } of module.aggregates) {
      const made = Object.values(events).filter(({ example }) => example === undefined).map(({ type }) => type)
      t.same(made.filter(type => !told.flat().some(({ fact }) => fact.type === type)), [], `the examples lead to every event of ${name}`)
    }
    for (const story of told) checkStory(t, module, story, compile)
  })
  for (const { name, on } of module.processes ?? []) {
    t.test(`the process ${name} asks for commands of the module that fit`, async t => {
      const steps = told.flat().filter(({ fact }) => on[fact.type] !== undefined)
      t.same(Object.keys(on).filter(type => !steps.some(({ fact }) => fact.type === type)), [], 'the examples lead to every event that it takes')
      for (const step of steps) {
        for (const { command, of, input } of on[step.fact.type]!(envelopeIn(step) as never)) {
          t.ok(Object.values(module.commands).includes(command) && compile(command.input)(input), `${step.fact.type}: the command is of the module, and its input fits`)
          if (of !== undefined && 'constraint' in of) t.type(of.aggregate.store.unique[of.constraint]?.holder, 'function', `${of.constraint} has a holder`)
          t.equal(of === undefined, command.creates, 'it is for an aggregate, unless it creates')
        }
      }
    })
  }
  for (const aggregate of [module, ...others].flatMap(({ aggregates }) => aggregates)) {
    t.test(`a projection takes all events of ${aggregate.name}, or none: else nobody knew which version it shows`, async t => {
      const types = Object.keys(aggregate.events)
      for (const { collection, on } of module.projections) {
        const taken = types.filter(type => type in on)
        if (taken.length > 0) t.same(taken, types, collection)
      }
    })
  }
  for (const aggregate of module.aggregates) {
    t.test(`what is unique among ${aggregate.name} is held by a state, and by none before the first event`, async t => {
      const story = told.flat().filter(step => step.aggregate === aggregate)
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

function checkStory (t: Test, module: Module, story: readonly Step[], compile: ReturnType<typeof compiler>): void {
  const project = projecting(t, module)
  for (const step of story) {
    const { command, aggregate, fact, before, state } = step
    const envelope = envelopeIn(step)
    if (module.aggregates.includes(command.aggregate)) t.ok(module.aggregates.includes(aggregate), `${fact.type} is recorded by the module that it is of`)
    if (module.aggregates.includes(aggregate)) {
      t.ok(compile(aggregate.events[fact.type]!.schema)(fact.data), `${fact.type} fits its schema`)
      t.ok(compile(aggregate.recordSchema)(aggregate.record(state)), `the record after ${fact.type} fits its schema`)
      t.same(aggregate.evolve[fact.type](before, fact.data), state, 'evolving twice from one state gives one state')
      t.same({ type: envelope.type, data: envelope.data, record: envelope.record }, { type: fact.type, data: fact.data, record: aggregate.record(state) })
    }
    project(envelope)
  }
}

const envelopeIn = ({ aggregate, id, version, fact, state }: Step) => ({ ...read(written(aggregate, { fact, record: aggregate.record(state) }, version)), id })

/**
 * What the lock of a module is made from: for each event, the first fact that the commands' examples lead to, and its own example.
 *
 * @param modules with those whose aggregates its commands see
 */
export function examplesOf (modules: readonly Module[], aggregate: AnyAggregate): Example[] {
  const steps = stories(modules).flat().filter(step => step.aggregate === aggregate)
  const last = steps.at(-1)?.state ?? aggregate.initial
  return Object.values(aggregate.events).flatMap(({ type, example }) => {
    const first = steps.find(({ fact }) => fact.type === type)
    return [
      ...first === undefined ? [] : [{ fact: first.fact, state: first.state }],
      ...example === undefined ? [] : [{ fact: { type, data: example }, state: aggregate.evolve[type](last, example) }]
    ]
  }).map(({ fact: { type, data }, state }) => ({ fact: { type, data }, record: aggregate.record(state) }))
}
