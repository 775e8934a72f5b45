/** Events of older versions come out in today's shape, and those of newer ones are refused. */
import t from 'tap'
import { Type } from 'typebox'
import { notes, written } from '@bifold/test/notes'
import { messageHeaders, readMessage } from './envelope.ts'
import { event } from './events.ts'
import { ofEveryVersion, projectionsOf, upcast } from './upcast.ts'

const id = '019a0000-0000-7000-8000-000000000000'
const ada = { author: 'Ada', text: 'on engines' }

/** A message as it was written in a version; without a header where there were no versions yet. */
function message (type: string, schemaVersion: number, record: object, data?: object) {
  const value = JSON.stringify({ task: 'insert', data: { id, version: 1, ...record }, event: data })
  return { key: Buffer.from(id), value: Buffer.from(value), headers: messageHeaders({ aggregate: 'notes', aggregateId: id, version: 1, type, schemaVersion, value, requestId: 'r', traceparent: '', time: '2026-01-01T00:00:00.000Z' }, '0') }
}

t.test('what was written in any version is taken in today\'s shape, data and record alike', async t => {
  const [today] = notes(3).aggregates
  for (const release of [1, 2, 3] as const) {
    const event = upcast(readMessage(message('NoteWritten', release, written(release, ada))), today!.events['NoteWritten']!)
    t.match(event, { id, version: 1, schemaVersion: 3, data: written(3, ada), record: written(3, ada) }, `version ${release}`)
  }
  const struck = upcast(readMessage(message('NoteStruck', 1, written(1, ada), {})), today!.events['NoteStruck']!)
  t.same([struck.data, struck.record], [{}, written(3, ada)], 'a step without a function for the data leaves it')
})

t.test('the header is only there from version 2 on, and is a positive integer', async t => {
  t.notOk('ce_schemaversion' in message('NoteWritten', 1, ada).headers)
  t.equal(message('NoteWritten', 2, ada).headers['ce_schemaversion'], '2')
  t.equal(readMessage(message('NoteWritten', 1, ada)).schemaVersion, 1)
  for (const wrong of ['0', 'two', '1.5', '-1']) {
    const { headers, ...rest } = message('NoteWritten', 2, ada)
    t.throws(() => readMessage({ ...rest, headers: { ...headers, ce_schemaversion: wrong } }), { code: 'UNREADABLE_MESSAGE', message: /ce_schemaversion is not a positive integer/ }, wrong)
  }
})

t.test('an event of a newer version than this code knows is refused', async t => {
  const [projection] = projectionsOf([notes(1)])
  t.throws(() => projection!.on['NoteWritten']!(readMessage(message('NoteWritten', 2, written(2, ada))) as never, { get: () => undefined }), { message: 'NoteWritten is of version 2, and nobody here knows a newer one than 1' })
})

t.test('an event of today is handed on as it is, and so is a stranger\'s', async t => {
  const today = readMessage(message('NoteWritten', 3, written(3, ada)))
  t.equal(upcast(today, notes(3).aggregates[0]!.events['NoteWritten']!), today)
  const handlers = ofEveryVersion([notes(3)], { NoteWritten: (event: unknown, more: string) => ({ event, more }), Unknown: (event: unknown) => ({ event }) })
  t.match(handlers['NoteWritten']!(today, 'more'), { event: today, more: 'more' })
  const strange = { ...today, type: 'Unknown', schemaVersion: 7 }
  t.equal(handlers['Unknown']!(strange, '').event, strange)
})

t.test('the notes that an event needs are told of today\'s shape; one that cannot be read needs none, and its handler tells', async t => {
  const module = notes(2)
  const [projection] = projectionsOf([{ ...module, projections: module.projections.map(one => ({ ...one, notes: ({ record }: { record: { authors: string[] } }) => record.authors })) }])
  t.same(projection!.notes!(readMessage(message('NoteWritten', 1, ada)) as never), ['Ada'])
  t.same(projection!.notes!(readMessage(message('NoteWritten', 3, written(3, ada))) as never), [])
  t.throws(() => projection!.on['NoteWritten']!(readMessage(message('NoteWritten', 3, written(3, ada))) as never, { get: () => undefined }), { message: /of version 3/ })
})

t.test('an older shape is not touched', async t => {
  const older = readMessage(message('NoteWritten', 1, ada))
  upcast(older, notes(3).aggregates[0]!.events['NoteWritten']!)
  t.match(older, { schemaVersion: 1, record: ada, data: ada })
})

t.test('the compiler wants each step, and today\'s data from the last one', async t => {
  const schema = Type.Object({ text: Type.String() })
  event('A', 'insert', schema, { version: 3, upcast: { 1: {}, 2: { data: ({ words }: { words: string[] }) => ({ text: words.join(' ') }) } } })
  // @ts-expect-error the step from 2 is missing
  event('A', 'insert', schema, { version: 3, upcast: { 1: {} } })
  // @ts-expect-error the version is missing
  event('A', 'insert', schema, { upcast: { 1: {} } })
  // @ts-expect-error there are no steps at all
  event('A', 'insert', schema, { version: 2 })
  // @ts-expect-error a step that leads nowhere
  event('A', 'insert', schema, { version: 2, upcast: { 1: {}, 2: {} } })
  // @ts-expect-error the last step does not end in today's data
  event('A', 'insert', schema, { version: 2, upcast: { 1: { data: () => ({ txet: '' }) } } })
})
