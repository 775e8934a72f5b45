/** Runs the modules' processes: takes the events that they have to react to, and has the commands that these lead to executed, each exactly once. */
import { setTimeout } from 'node:timers/promises'
import fp from 'fastify-plugin'
import type { CompiledQuery } from 'kysely'
import { Counter, Gauge } from 'prom-client'
import type { FastifyBaseLogger } from 'fastify'
import { isDomainError, ofEveryVersion, processesOf, type AnyProcess, type Asked, type Envelope, type Module } from '@bifold/cqrs'
import { dbOf, isOutage, type Db } from '@bifold/postgres'
import { backgroundOf, metricsOf } from '@bifold/service'
import type { Executor } from './executor.ts'
import { digestOf } from './headers.ts'
import { newId } from './ids.ts'
import { commandsOf } from './index.ts'
import { dealtWith, due, type Due } from './process-events.ts'
import type { Request } from './request.ts'

const eventsMax = 100 // taken at once: a fifth of a group, so that requests are not held up
const lookMs = 5000 // for what another gateway has left behind; who commits an event reacts at once
const heldMax = 1000 // aggregates with an event that fails: more is not one event's fault
const heldMs = { first: 1000, longest: 60_000 } // until such an event is tried again: a new version of the code may be minutes away

/** An aggregate whose event failed: how often, and when it is tried again. */
interface Held { readonly tries: number, readonly until: number }

interface Worker {
  readonly name: string
  readonly types: readonly string[]
  readonly asked: (event: Envelope) => readonly Asked[]
  readonly db: Db
  readonly executor: Executor
  readonly log: FastifyBaseLogger
  readonly held: Map<string, Held>
  /** Told what became of a command. */
  readonly count: (outcome: string) => void
}

export default fp<{ modules: readonly Module[] }>(async (app, { modules }) => {
  const { executor, onCommitted } = commandsOf(app)
  const counter = new Counter({ name: 'bifold_process_commands_total', help: 'Commands of processes by what became of them', labelNames: ['process', 'outcome'], registers: [metricsOf(app)] })
  const waiting = new Gauge({ name: 'bifold_process_held_aggregates', help: 'Aggregates with an event that a process fails to react to', labelNames: ['process'], registers: [metricsOf(app)] })
  for (const process of processesOf(modules)) {
    const { name } = process
    const worker = { ...handlersOf(modules, process), name, db: dbOf(app), executor, log: app.log, held: new Map(), count: (outcome: string) => counter.inc({ process: name, outcome }) }
    const wake = makeWake()
    onCommitted(wake.now)
    backgroundOf(app)(`process ${name}`, async ({ signal, ready }) => {
      while (!signal.aborted) {
        const next = wake.next(signal)
        const full = await react(worker)
        ready()
        waiting.set({ process: name }, worker.held.size)
        if (!full) await next
      }
    })
  }
}, { name: 'processes', dependencies: ['commands', 'postgres', 'background'] })

function handlersOf (modules: readonly Module[], { on }: AnyProcess): Pick<Worker, 'types' | 'asked'> {
  const known = Object.entries(on).flatMap(([type, handle]) => handle === undefined ? [] : [[type, handle] as const])
  const handlers = ofEveryVersion(modules, Object.fromEntries(known))
  return { types: known.map(([type]) => type), asked: event => handlers[event.type]!(event) }
}

/** What comes first: that something was committed, some seconds, or the end. */
function makeWake () {
  let waiting = Promise.withResolvers<void>()
  return {
    now: () => waiting.resolve(),
    async next (signal: AbortSignal) {
      waiting = Promise.withResolvers()
      const over = new AbortController()
      const late = setTimeout(lookMs, undefined, { signal: AbortSignal.any([signal, over.signal]) }).catch(() => {})
      await Promise.race([waiting.promise, late])
      over.abort()
    }
  }
}

/** @returns true if there may be more to do at once */
async function react (worker: Worker): Promise<boolean> {
  const { name, types, db, held } = worker
  const now = Date.now()
  const events = await due(db, name, types, [...held].filter(([, { until }]) => until > now).map(([id]) => id), eventsMax)
  const byAggregate = Map.groupBy(events, ({ event }) => event.id)
  await Promise.all([...byAggregate.values()].map(async events => await inOrder(worker, events)))
  return events.length === eventsMax
}

async function inOrder (worker: Worker, events: readonly Due[]): Promise<void> {
  const { held, log, name } = worker
  for (const one of events) {
    const { id, type, version } = one.event
    try {
      await dealWith(worker, one)
      held.delete(id)
    } catch (error) {
      // A server that is away is away for all of them; a fault of our own is of this event, and the later ones of its aggregate wait.
      if (isDomainError(error) || isOutage(error) || held.size >= heldMax) throw error
      const tries = (held.get(id)?.tries ?? 0) + 1
      held.set(id, { tries, until: Date.now() + Math.min(heldMs.first * 2 ** (tries - 1), heldMs.longest) })
      log.error({ err: error, process: name, id, type, version, tries }, 'a process failed to react to an event, and will try again')
      return
    }
  }
}

async function dealWith (worker: Worker, one: Due): Promise<void> {
  const { db, executor, asked: asks, count, log, name } = worker
  const asked = asks(one.event)
  const settled = (index: number) => dealtWith(db, one, index + 1 === asked.length ? 'all' : index + 1)
  for (let index = one.done; index < asked.length; index++) {
    const { command: { creates }, of } = asked[index]!
    const id = creates ? newId() : await addressee(db, of)
    if (id === undefined) {
      count('nobody')
      await db.executeQuery(settled(index))
      continue
    }
    const [outcome] = await executor.executeAll([requestOf(worker, one, index, asked[index]!, id, settled(index))], one)
    if (outcome!.ok) {
      count('accepted')
      continue
    }
    const { error } = outcome!
    if (!isDomainError(error) || error.retryable) throw error
    count(error.code)
    log.warn({ process: name, id, event: one.event.type, code: error.code, reason: error.message }, "a process's command was refused")
    await db.executeQuery(settled(index))
  }
  if (one.done >= asked.length) await db.executeQuery(dealtWith(db, one, 'all'))
}

async function addressee (db: Db, of: Asked['of']): Promise<string | undefined> {
  if (of === undefined) throw new Error('A command that is for an aggregate was asked for without one')
  if ('id' in of) return of.id === '' ? undefined : of.id
  return await of.aggregate.store.unique[of.constraint]!.holder!(db as never, of.value)
}

/** With a key of its own: of two gateways that are at the same event, one does it, and the other is given its answer. */
function requestOf ({ name }: Worker, { event, traceparent }: Due, index: number, { command, input }: Asked, id: string, settled: CompiledQuery): Request {
  const value = `process ${name}: ${event.id}/${event.version}/${index}`
  // Anybody can tell the digest. As a UUID of no version it is none that a client's key can have, so that nobody takes it before.
  const digest = digestOf(value).replace(/^(.{12})./, '$10')
  return { command, id, input, bytes: 0, expected: undefined, key: { value, digests: () => ({ digest, fingerprint: digest }) }, requestId: event.requestId, traceparent, also: settled }
}
