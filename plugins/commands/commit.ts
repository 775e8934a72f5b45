/** One transaction for a group of commands: load and lock, decide each, save all, commit. */
import { sql, type CompiledQuery } from 'kysely'
import { KeyReused, messageValue, TooLarge, VersionMismatch, type AnyAggregate, type Fact, type FactOn, type Versioned } from '@bifold/cqrs'
import { arrays, transaction, type Db } from '@bifold/postgres'
import { noReactions, written, type Reactions } from './process-events.ts'
import { loadStates, see, unborn, Unforeseen, type States } from './load.ts'
import { insertRefused, insertSucceeded, keepRefused, type Refused, type Succeeded } from './outcomes.ts'
import type { Answer, Digests, Request } from './request.ts'

export type Outcome = { readonly ok: true, readonly answer: Answer } | { readonly ok: false, readonly error: unknown }

interface NewEvent {
  readonly aggregate: string
  readonly id: string
  readonly version: number
  readonly type: string
  readonly schemaVersion: number
  /** The message's value, as JSON. */
  readonly value: string
  readonly requestId: string
  readonly traceparent: string
  readonly time: Date
}

/** A command, with the digests of its key, if it has one. */
interface Keyed { readonly request: Request, readonly digests: Digests | undefined }

/** What a group has loaded and changed so far. */
interface Group {
  readonly states: States
  readonly rounds: Round[]
  readonly events: NewEvent[]
  /** By the digest of the key. */
  readonly answers: Map<string, { fingerprint: string, answer: Answer }>
  readonly newKeys: Set<string>
  /** What has become of those from the queue. */
  readonly succeeded: Succeeded[]
  readonly refused: Refused[]
}

/**
 * Changes that are saved at once. PostgreSQL sees only the last state of each aggregate in it, not those between, in which
 * a command may have wanted what another held. So each unique value is taken or freed at most once in a round: the command
 * that does it again begins the next one, and each meets what it would meet alone. Groups rarely need a second round.
 */
interface Round {
  readonly changed: Map<AnyAggregate, Map<string, Versioned<unknown>>>
  /** The unique values that were taken or freed. */
  readonly moved: Set<string>
}

const valueBytesMax = 768 * 1024 // with its headers it has to fit into what Kafka takes for a message, 1 MB
const utf8BytesMax = 3 // of a character of JavaScript's

const newRound = (): Round => ({ changed: new Map(), moved: new Set() })

/** A command with a key would be refused, and nobody has looked yet whether it is a repetition, which has its answer. */
class NotLooked extends Error {}

/**
 * Commits a group of commands.
 *
 * @returns the outcome of each, in their order: an answer, or the error of its rule
 * @throws what PostgreSQL refused; then nothing of the group is done
 */
export async function commit (db: Db, requests: readonly Request[], reactions: Reactions = noReactions): Promise<Outcome[]> {
  // In one go: code that has just run is in the processor's caches. Made as each request came in, between much else, they took 10 µs instead of 3.
  const keyed = requests.map(request => ({ request, digests: request.key?.digests() }))
  try {
    // Keys are new, as a rule: then to look for their answers would be a round trip for nothing.
    return await commitOnce(db, keyed, reactions, { looking: false })
  } catch (error) {
    if (!(error instanceof NotLooked) && (error as { constraint?: string }).constraint !== 'idempotency_keys_pkey') throw error
    return await commitOnce(db, keyed, reactions, { looking: true })
  }
}

async function commitOnce (db: Db, keyed: readonly Keyed[], reactions: Reactions, { looking }: { looking: boolean }): Promise<Outcome[]> {
  const requests = keyed.map(({ request }) => request)
  const rounds = [newRound()]
  try {
    let reacting = false
    const outcomes = await transaction(db, async tx => {
      const group: Group = { states: await loadStates(tx, requests), rounds, events: [], answers: new Map(), newKeys: new Set(), succeeded: [], refused: [] }
      // After the locks: who repeats a request that is just being committed has waited for it, and sees its answer.
      if (looking) await loadAnswers(tx, keyed, group)
      const outcomes = keyed.map(one => decide(one, group))
      if (!looking && outcomes.some(({ ok }, index) => !ok && requests[index]!.key !== undefined)) throw new NotLooked()
      const forProcesses = written(tx, group.events, reactions)
      reacting = forProcesses !== undefined
      const also = requests.map(({ also }, index) => outcomes[index]!.ok ? also : undefined)
      return { result: outcomes, writes: [...writes(tx, group), forProcesses, ...also].filter(statement => statement !== undefined) }
    })
    if (reacting) reactions.committed()
    return outcomes
  } catch (error) {
    throw requests.length === 1 ? meaning(error, rounds) : error
  }
}

async function loadAnswers (tx: Db, keyed: readonly Keyed[], group: Group) {
  const digests = keyed.flatMap(({ digests }) => digests === undefined ? [] : [digests.digest])
  if (digests.length === 0) return
  const rows = await tx.selectFrom('idempotencyKeys').select(['digest', 'fingerprint', 'id', 'version']).where(sql<boolean>`digest = any(${digests}::uuid[])`).execute()
  const plain = (uuid: string) => uuid.replaceAll('-', '')
  for (const { digest, fingerprint, ...answer } of rows) group.answers.set(plain(digest), { fingerprint: plain(fingerprint), answer })
}

function decide ({ request, digests }: Keyed, group: Group): Outcome {
  try {
    const answer = digests === undefined ? apply(request, group) : applyOnce(request, digests, group)
    if (request.queued !== undefined) group.succeeded.push({ id: request.queued.id, aggregate: request.command.aggregate.name, answer })
    return { ok: true, answer }
  } catch (error) {
    if (error instanceof Unforeseen) throw error
    // In the same transaction: decided once more, after later ones of its aggregate, it might be accepted.
    group.refused.push(...refusalOf(request, error))
    return { ok: false, error }
  }
}

/** What is kept of a refusal: nothing, unless the command waited in the queue. */
const refusalOf = ({ queued, command }: Request, error: unknown): Refused[] => queued === undefined ? [] : [{ id: queued.id, aggregate: command.aggregate.name, problem: queued.problem(error) }]

/** Keeps that PostgreSQL has refused a command of the queue. Throws if that fails. */
export const keepRefusal = async (db: Db, request: Request, error: unknown): Promise<void> => await keepRefused(db, refusalOf(request, error))

function applyOnce (request: Request, { digest, fingerprint }: Digests, group: Group): Answer {
  const before = group.answers.get(digest)
  if (before !== undefined) {
    if (before.fingerprint !== fingerprint) throw new KeyReused(request.key!.value)
    return { ...before.answer, ...seenBy(request, group), replayed: true }
  }
  const answer = apply(request, group)
  group.answers.set(digest, { fingerprint, answer })
  group.newKeys.add(digest)
  return answer
}

function apply (request: Request, group: Group): Answer {
  const { states, rounds, events } = group
  const { command: { aggregate, decide }, id, input, expected } = request
  const own = states.get(aggregate)!.get(id) ?? unborn(aggregate, id)
  const now = new Date()
  // The rule first: that a book does not exist says more than that its version is another.
  const facts = decide(own.state as never, input as never, { id, now, seen: see(request, own.state, states) })
  if (expected !== undefined && !expected.includes(own.version)) throw new VersionMismatch(id, own.version, expected.join(', '))
  const changes: Change[] = []
  const made = facts.map(fact => {
    const change = changeOf(fact, aggregate, own, states, changes)
    const { aggregate: { evolve }, after: { id, version, state } } = change
    change.after = { id, version: version + 1, state: evolve[fact.type](state, fact.data) }
    return newEvent(request, change, fact, now)
  })
  // Only now: a rule that throws half way has changed nothing.
  events.push(...made)
  for (const change of changes) {
    states.get(change.aggregate)!.set(change.after.id, change.after)
    save(change, rounds)
  }
  return { id, version: states.get(aggregate)!.get(id)?.version ?? own.version, ...seenBy(request, group) }
}

function seenBy (request: Request, { states }: Group): Pick<Answer, 'seen'> {
  const { command: { aggregate, sees }, id } = request
  if (sees === undefined) return {}
  const seen = Object.values(see(request, states.get(aggregate)!.get(id)?.state ?? aggregate.initial, states)).filter(({ version }) => version > 0)
  return { seen: seen.map(({ aggregate: { name }, id, version }) => ({ aggregate: name, id, version })) }
}

/** What the facts of one command make of one aggregate. */
interface Change { readonly aggregate: AnyAggregate, readonly before: Versioned<unknown>, after: Versioned<unknown> }

/** The change of the aggregate that a fact is about: of the command's own, or of one that it sees. */
function changeOf (fact: Fact | FactOn, own: AnyAggregate, ownState: Versioned<unknown>, states: States, changes: Change[]): Change {
  const [aggregate, id] = 'on' in fact ? [fact.on.aggregate, fact.on.id] : [own, ownState.id]
  const begun = changes.find(change => change.aggregate === aggregate && change.after.id === id)
  if (begun !== undefined) return begun
  const before = 'on' in fact ? states.get(aggregate)?.get(id) : ownState
  if (before === undefined) throw new Error(`${fact.type} is recorded on ${aggregate.name} '${id}', which the command does not see`)
  const change = { aggregate, before, after: before }
  changes.push(change)
  return change
}

function newEvent ({ requestId, traceparent }: Request, { aggregate, after: { id, version, state } }: Change, fact: Fact, time: Date): NewEvent {
  const { task, version: schemaVersion } = aggregate.events[fact.type]!
  const value = JSON.stringify(messageValue(task, id, version, aggregate.record(state), fact))
  if (value.length > valueBytesMax / utf8BytesMax && Buffer.byteLength(value) > valueBytesMax) throw new TooLarge(id, valueBytesMax)
  return { aggregate: aggregate.name, id, version, type: fact.type, schemaVersion, value, requestId, traceparent, time }
}

function save ({ aggregate, before, after }: Change, rounds: Round[]) {
  const moved = Object.entries(aggregate.store.unique).flatMap(([constraint, { value }]) => {
    const [from, to] = [value(before.state), value(after.state)]
    return from === to ? [] : [from, to].filter(held => held !== undefined).map(held => `${constraint} ${held}`)
  })
  if (moved.some(value => rounds.at(-1)!.moved.has(value))) rounds.push(newRound())
  const round = rounds.at(-1)!
  for (const value of moved) round.moved.add(value)
  if (!round.changed.has(aggregate)) round.changed.set(aggregate, new Map())
  round.changed.get(aggregate)!.set(after.id, after)
}

function writes (tx: Db, { states, rounds, events, answers, newKeys, succeeded, refused }: Group): CompiledQuery[] {
  const statements: CompiledQuery[] = []
  // The primary key decides, should two gateways execute the same command of the queue.
  if (succeeded.length > 0) statements.push(insertSucceeded(tx, succeeded))
  if (refused.length > 0) statements.push(insertRefused(tx, refused))
  // First: who repeats a request meets its key, and not what the first one took.
  if (newKeys.size > 0) {
    // In their order, so that two gateways lock in one order.
    const digests = [...newKeys].sort()
    const found = digests.map(digest => answers.get(digest)!)
    statements.push(sql`
      insert into idempotency_keys (digest, fingerprint, id, version)
      select * from unnest(
        ${arrays.uuid(digests)}::uuid[],
        ${arrays.uuid(found.map(({ fingerprint }) => fingerprint))}::uuid[],
        ${arrays.uuid(found.map(({ answer: { id } }) => id))}::uuid[],
        ${arrays.integer(found.map(({ answer: { version } }) => version))}::integer[]
      )
    `.compile(tx))
  }
  for (const { changed } of rounds) {
    // In the order in which they were locked.
    for (const aggregate of states.keys()) {
      if (changed.has(aggregate)) statements.push(aggregate.store.save(tx as never, [...changed.get(aggregate)!.values()]))
    }
  }
  if (events.length > 0) statements.push(insertEvents(tx, events))
  return statements
}

// A parameter for each column: the statement's text is the same for any number of rows.
function insertEvents (tx: Db, events: readonly NewEvent[]): CompiledQuery {
  return sql`
    insert into events (aggregate, aggregate_id, version, type, schema_version, value, request_id, traceparent, time)
    select * from unnest(
      ${arrays.text(events.map(event => event.aggregate))}::text[],
      ${arrays.uuid(events.map(event => event.id))}::uuid[],
      ${arrays.integer(events.map(event => event.version))}::integer[],
      ${arrays.text(events.map(event => event.type))}::text[],
      ${arrays.integer(events.map(event => event.schemaVersion))}::integer[],
      ${arrays.json(events.map(event => event.value))}::json[],
      ${arrays.text(events.map(event => event.requestId))}::text[],
      ${arrays.text(events.map(event => event.traceparent))}::text[],
      ${arrays.timestamptz(events.map(event => event.time))}::timestamptz[]
    )
  `.compile(tx)
}

/** What a violated constraint means in the words of the module; for a command that was alone. */
function meaning (error: unknown, rounds: readonly Round[]): unknown {
  const { constraint = '' } = error as { constraint?: string }
  for (const [{ store: { unique, constraints } }, changed] of rounds.flatMap(({ changed }) => [...changed])) {
    for (const after of changed.values()) {
      const value = unique[constraint]?.value(after.state)
      if (value !== undefined) return unique[constraint]!.taken(value)
      if (constraints?.[constraint] !== undefined) return constraints[constraint](after)
    }
  }
  return error
}
