/** The lock refuses what would make old events unreadable, and says what to do. */
import t from 'tap'
import { Type } from 'typebox'
import { notes, written, type Release } from '@bifold/test/notes'
import { examplesOf } from './conformance.ts'
import type { Envelope } from './envelope.ts'
import { event, type AnyEventType } from './events.ts'
import { canonical, faultsIn, locked, type EventLock, type LockedVersion } from './lock.ts'
import type { Module } from './module.ts'
import { forget, note, replace, type Document, type Notes } from './projection.ts'

const lock = (module: Module, before: EventLock = {}): EventLock => JSON.parse(JSON.stringify(locked(module, before, aggregate => examplesOf([module], aggregate))))

/** The lock as it grows from release to release. */
const after = (release: Release): EventLock => lock(notes(release), release === 1 ? {} : after(release - 1 as Release))

/** The module with another event, or another record. */
function changed (module: Module, type: string, change: Partial<AnyEventType>, aggregate: object = {}): Module {
  const [first] = module.aggregates
  return { ...module, aggregates: [{ ...first!, ...aggregate, events: { ...first!.events, [type]: Object.assign(() => ({}) as never, { ...first!.events[type]! }, change) as never } }] }
}

function edited (lock: EventLock, type: string, version: number, change: (now: LockedVersion) => Partial<LockedVersion>): EventLock {
  const now = lock[type]![version]!
  return { ...lock, [type]: { ...lock[type], [version]: { ...now, ...change(now) } } }
}

t.test('what is locked as it was written is fine, release after release, and locking again changes nothing', async t => {
  for (const release of [1, 2, 3] as const) {
    t.same(faultsIn(notes(release), after(release)), [], `release ${release}`)
    t.same(lock(notes(release), after(release)), after(release))
  }
  t.same(faultsIn(remembering({ names: ({ id }) => [id], noted: { author: 'Ada' } }), after(2)), [], 'what a projection notes it finds again')
  const { NoteWritten } = after(3)
  t.same(NoteWritten!['1'], after(1)['NoteWritten']!['1'], 'what was locked first is still there')
  t.match(NoteWritten!['3']!.arrived, { 1: [{ record: written(3, { author: 'Ada', text: 'on engines' }) }], 2: [{}] })
})

const more = Type.Object({ author: Type.String(), text: Type.String(), mood: Type.Optional(Type.String()) }, { additionalProperties: false })
/** The second release, with a projection that notes something at the first event, and looks for it at the last. */
function remembering ({ names, noted }: { names: (event: Envelope) => readonly string[], noted: object }): Module {
  const NoteWritten = ({ id }: Envelope) => note({ _id: id, ...noted })
  const NoteStruck = ({ id }: Envelope, found: Notes<Document & { author: string }>) => [forget(id), replace({ _id: id, by: found.get(id)!.author.toUpperCase() })]
  return { ...notes(2), projections: [{ collection: 'struck', indexes: [], notes: names, on: { NoteWritten, NoteStruck } }] }
}

const faults: [what: string, module: Module, lock: EventLock, says: RegExp][] = [
  ['a changed schema of the data', changed(notes(1), 'NoteWritten', { schema: more }), after(1), /^NoteWritten: the schema of its data is not what is locked for version 1\..*declare version 2 of NoteWritten.*npm run generate/],
  ['a changed schema of the record', changed(notes(1), 'NoteWritten', {}, { recordSchema: more }), after(1), /^NoteWritten: the schema of the record after it is not what is locked for version 1/],
  ['another task', changed(notes(1), 'NoteWritten', { task: 'update' }), after(1), /^NoteWritten: its task is not what is locked/],
  ['a new version that is not locked', notes(2), after(1), /^NoteWritten: version 2 is not locked.*npm run generate/],
  ['a module that was never locked', notes(1), {}, /^NoteWritten: version 1 is not locked/],
  ['a version that goes back', notes(1), after(2), /^NoteWritten is locked up to version 2, and declared with version 1/],
  ['an event that is not declared any more', { ...notes(1), aggregates: [{ ...notes(1).aggregates[0]!, events: {} }] }, after(1), /^NoteWritten is locked and not declared any more/],
  ['a missing step', changed(notes(2), 'NoteWritten', { upcast: {} }), after(2), /^NoteWritten: the step from version 1 to 2 is missing/],
  ['a step too many', changed(notes(2), 'NoteWritten', { upcast: { 1: {}, 2: {} } }), after(2), /^NoteWritten: a step from version 2 leads to none/],
  ['a step that does something else than before', changed(notes(2), 'NoteStruck', { upcast: { 1: { record: ({ author, text }) => ({ authors: [author, 'and others'], text }) } } }), after(2), /^NoteStruck: message 1 of version 1 becomes .*and others.* in version 2, and became .* when that was locked/],
  ['a step that throws', changed(notes(2), 'NoteStruck', { upcast: { 1: { record () { throw new Error('cannot') } } } }), after(2), /^NoteStruck: message 1 of version 1 is not read: cannot/],
  ['an old event that does not fit today', notes(2), edited(edited(after(2), 'NoteStruck', 1, ({ written }) => ({ written: written.map(one => ({ ...one, value: { task: 'delete', data: { id: one.key, version: 3, author: 'Ada' }, event: {} } })) })), 'NoteStruck', 2, () => ({ arrived: { 1: [{ data: {}, record: { authors: ['Ada'] } }] } })), /^NoteStruck: message 1 of version 1 does not fit today's schema of its record/],
  ['a message of another event', notes(1), edited(after(1), 'NoteStruck', 1, () => ({ written: after(1)['NoteWritten']!['1']!.written })), /^NoteStruck: message 1 of version 1 is of version 1 of NoteWritten/],
  ['a message that was put there by hand, without what became of it', notes(2), edited(after(2), 'NoteStruck', 1, ({ written }) => ({ written: [...written, ...written] })), /^NoteStruck: message 2 of version 1 has nothing to compare with in version 2\. Run: npm run generate/],
  ['a note that lacks what a later event looks for', remembering({ names: ({ id }) => [id], noted: {} }), after(2), /^NoteStruck: message 1 of version 1 is not read: .*toUpperCase/],
  ['a note that is looked at without being named', remembering({ names: () => [], noted: { author: 'Ada' } }), after(2), /^NoteStruck: message 1 of version 1 is not read: the projection struck does not name the note 019a/],
  ['a projection that does not take it', { ...notes(1), projections: [{ collection: 'notes', indexes: [], on: { NoteWritten: () => ({}) as never } }] }, after(1), /^NoteWritten: message 1 of version 1 is not taken by the projection notes/]
]
for (const [what, module, lock, says] of faults) {
  t.test(`${what} is a fault`, async t => {
    const found = faultsIn(module, lock)
    t.ok(found.some(fault => says.test(fault)), `it says ${says}`, { found })
  })
}

t.test('locking adds what became of a message that was put there by hand, and overwrites nothing', async t => {
  const byHand = edited(after(2), 'NoteStruck', 1, ({ written }) => ({ written: [...written, ...written] }))
  t.same(faultsIn(notes(2), lock(notes(2), byHand)), [])
  const other = changed(notes(1), 'NoteWritten', { schema: more })
  t.same(lock(other, after(1)), after(1), 'a changed schema stays a fault')
})

t.test('an event without an example cannot be locked; one of its own is enough', async t => {
  const { aggregates: [aggregate], commands, ...rest } = notes(1)
  const withMore = (NoteShelved: AnyEventType): Module => {
    const now = { ...aggregate!, events: { ...aggregate!.events, NoteShelved }, evolve: { ...aggregate!.evolve, NoteShelved: (state: unknown) => state } }
    return { ...rest, aggregates: [now], commands: Object.fromEntries(Object.entries(commands).map(([name, command]) => [name, { ...command, aggregate: now }])) }
  }
  const shelf = Type.Object({ shelf: Type.Integer() }, { additionalProperties: false })
  t.throws(() => lock(withMore(event('NoteShelved', 'update', shelf))), { message: /No command's example leads to NoteShelved: give it one/ })
  const shown = withMore(event('NoteShelved', 'update', shelf, { example: { shelf: 3 } }))
  t.same(faultsIn(shown, lock(shown)), [])
})

t.test('what is only said to people is no change of a schema, and a field may be called title or description', async t => {
  const plain = Type.Object({ title: Type.String(), description: Type.Optional(Type.String()) })
  t.same(canonical(Type.Object({ title: Type.String({ description: 'Short' }), description: Type.Optional(Type.String({ title: 'Long', examples: ['x'] })) }, { description: 'All' })), canonical(plain))
  t.same(canonical({ required: ['b', 'a'], type: 'object' }), canonical({ type: 'object', required: ['a', 'b'] }))
  t.notSame(canonical(Type.Object({ title: Type.String() })), canonical(plain))
})
