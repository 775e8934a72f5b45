/** What the messages of a stretch come to, before anything is written: changes, notes, and dead letters for what cannot be applied. */
import type { ObjectId } from 'mongodb'
import type { AnyProjection, Change, Envelope, NoteChange } from '@bifold/cqrs'
import type { RawMessage } from '@bifold/kafka'
import { makeLetter, park, type Letter, type Parked } from './letters.ts'
import type { Notebook } from './notes.ts'

/** An event with the message that it came in. */
export interface Received { readonly message: RawMessage, readonly envelope: Envelope }

/** A message that nobody can read, with the reason. */
export interface Unreadable { readonly message: RawMessage, readonly reason: string }

/** Consecutive messages of one partition: events to apply, and messages that nobody can read. */
export interface Stretch {
  readonly topic: string
  readonly partition: number
  readonly events: readonly Received[]
  readonly unreadable: readonly Unreadable[]
  /** The message after the last. */
  readonly next: number
}

/** Changes, the versions of the aggregates that they lead to, letters for what cannot be read or applied, and the aggregates that those park. */
export interface Plan {
  readonly changes: readonly Change[]
  readonly versions: ReadonlyMap<string, number>
  readonly letters: readonly Letter[]
  readonly newly: Parked
}

interface Planned { readonly projection: AnyProjection, readonly parked: Parked }

export function plan ({ projection, parked }: Planned, stretch: Stretch, { events, unreadable }: Pick<Stretch, 'events' | 'unreadable'>, notebook: Notebook): Plan {
  const changes: Change[] = []
  const versions = new Map<string, number>()
  const letters = unreadable.map(({ message, reason }) => makeLetter(projection, stretch, { message, reason, tries: 1, waits: false }))
  const newly: Parked = new Map()
  for (const received of events) {
    const { message, envelope } = received
    if (parked.has(envelope.id) || newly.has(envelope.id)) {
      letters.push(makeLetter(projection, stretch, { message, envelope, reason: 'an earlier event of the aggregate was not applied', tries: 0, waits: true }))
      continue
    }
    try {
      changes.push(...changesOf(projection, envelope, notebook))
      versions.set(envelope.id, envelope.version)
    } catch (error) {
      const letter = refused(projection, stretch, received, (error as Error).message, 1)
      letters.push(letter)
      park(newly, envelope.id, letter._id, parked.size)
    }
  }
  return { changes, versions, letters, newly }
}

/** A plan for an event that MongoDB refuses. */
export function parking ({ projection, parked }: Planned, stretch: Stretch, received: Received, reason: string, tries: number): Plan {
  const letter = refused(projection, stretch, received, reason, tries)
  const newly: Parked = new Map()
  park(newly, received.envelope.id, letter._id, parked.size)
  return { changes: [], versions: new Map(), letters: [letter], newly }
}

/** The letter of an event that parks its aggregate. */
const refused = (projection: AnyProjection, stretch: Stretch, { message, envelope }: Received, reason: string, tries: number): Letter =>
  makeLetter(projection, stretch, { message, envelope, reason, tries, waits: false })

/** The letter that an aggregate is parked behind. */
export const headIn = ({ parked }: Planned, { newly }: Plan) => (aggregateId: string): ObjectId => (newly.get(aggregateId) ?? parked.get(aggregateId))!

/** Takes over what a plan has parked, once it is written. */
export function adopt ({ parked }: Planned, { newly }: Plan) {
  for (const [aggregateId, head] of newly) parked.set(aggregateId, head)
}

/**
 * Whether a projection has to do with events of a type: with those that it knows, and with those that no module declares, whose
 * aggregates wait for a projector that knows them.
 */
export const concerns = ({ on }: AnyProjection, declared: ReadonlySet<string>, type: string): boolean => Object.hasOwn(on, type) || !declared.has(type)

/**
 * The changes that an event makes; what it notes goes into the notebook.
 *
 * @throws what the projection threw, or that nobody knows the event
 */
export function changesOf ({ on, collection }: AnyProjection, envelope: Envelope, notebook: Notebook): Change[] {
  const handle = Object.hasOwn(on, envelope.type) ? on[envelope.type] : undefined // a stranger's event may have the name of what every object has
  if (handle === undefined) throw new Error(`no projection knows ${envelope.type}`)
  let made: ReturnType<typeof handle>
  try {
    made = handle(envelope as never, notebook.of(envelope))
  } catch (cause) {
    throw new Error(`the projection ${collection} threw: ${(cause as Error).message}`, { cause })
  }
  const changes: Change[] = []
  const ofNotes: NoteChange[] = []
  for (const change of (Array.isArray(made) ? made : [made]) as readonly (Change | NoteChange)[]) {
    if (isOfNotes(change)) ofNotes.push(change)
    else changes.push(change)
  }
  notebook.change(ofNotes)
  return changes
}

const isOfNotes = (change: Change | NoteChange): change is NoteChange => change.op === 'note' || change.op === 'forget'

/** A document that was there already, as after a restored backup, is replaced: the event is the truth. */
export const asReplace = (change: Change): Change => change.op === 'insert' ? { ...change, op: 'replace' } : change
