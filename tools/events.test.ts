/** `npm run events`, on a copy of the modules: a changed schema is refused until it has a version of its own, which is then locked. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import t, { type Test } from 'tap'

const root = join(import.meta.dirname, '..')

/** A copy from which packages are still found, and its command line. */
function copy (t: Test) {
  mkdirSync(join(root, '.stack-test'), { recursive: true })
  const folder = mkdtempSync(join(root, '.stack-test/modules-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  cpSync(join(root, 'modules'), folder, { recursive: true, filter: path => !path.includes('node_modules') })
  const file = (name: string) => join(folder, 'books', name)
  return {
    run: async (command: 'check' | 'lock') => await execa('node', ['tools/events.ts', command, '--modules', folder], { cwd: root, reject: false, all: true }),
    text: (name: string) => readFileSync(file(name), 'utf8'),
    lock: () => JSON.parse(readFileSync(file('events.lock.json'), 'utf8')),
    change (name: string, from: string, to: string) {
      const before = readFileSync(file(name), 'utf8')
      if (before.split(from).length !== 2) throw new Error(`${from} is not in one place`)
      writeFileSync(file(name), before.replace(from, to))
    },
    remove: (name: string) => rmSync(file(name))
  }
}

t.test('a changed schema is refused, by the check and by the lock; with a new version and a step it is locked', async t => {
  const { run, text, lock, change } = copy(t)
  t.match(await run('check'), { exitCode: 0, all: '' })
  const before = text('events.lock.json')
  change('book.ts', 'pages: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000 }))', 'pages: Type.Optional(Type.Integer({ minimum: 1, maximum: 200_000 }))')
  for (const command of ['check', 'lock'] as const) {
    const { exitCode, all } = await run(command)
    t.equal(exitCode, 1, command)
    t.match(all, /BookAdded: the schema of its data is not what is locked for version 1[^]*BookRevised: the schema of its data[^]*BookWithdrawn: the schema of the record/)
  }
  t.equal(text('events.lock.json'), before, 'nothing was written')

  change('book.ts', "event('BookAdded', 'insert', BookDetails)", "event('BookAdded', 'insert', BookDetails, { version: 2, upcast: { 1: {} } })")
  change('book.ts', "event('BookRevised', 'update', BookChanges)", "event('BookRevised', 'update', BookChanges, { version: 2, upcast: { 1: {} } })")
  change('book.ts', 'Type.Object({}, { additionalProperties: false }))', 'Type.Object({}, { additionalProperties: false }), { version: 2, upcast: { 1: {} } })')
  t.match(await run('check'), { exitCode: 1, all: /BookAdded: version 2 is not locked[^]*npm run generate/ })
  t.match(await run('lock'), { exitCode: 0, all: /Locked the new versions of the events of books/ })
  t.match(await run('check'), { exitCode: 0, all: '' })
  for (const [type, versions] of Object.entries(JSON.parse(before))) t.same(lock()[type]['1'], (versions as Record<string, unknown>)['1'], `version 1 of ${type} stays`)
  t.match(lock().BookAdded['2'], { schemas: { data: { properties: { pages: { maximum: 200_000 } } } }, arrived: { 1: [{ data: { title: 'Emma' } }] } })
})

t.test('a changed step is refused', async t => {
  const { run, change } = copy(t)
  const declared = "event('BookAdded', 'insert', BookDetails)"
  change('book.ts', declared, "event('BookAdded', 'insert', BookDetails, { version: 2, upcast: { 1: {} } })")
  t.match(await run('lock'), { exitCode: 0 })
  change('book.ts', '{ version: 2, upcast: { 1: {} } }', "{ version: 2, upcast: { 1: { record: book => ({ ...book, title: 'Untitled' }) } } }")
  t.match(await run('check'), { exitCode: 1, all: /BookAdded: message 1 of version 1 becomes .*Untitled.* and became .*Emma.* when that was locked/ })
})

t.test('a module without a lock is refused, and one that nobody can read is named', async t => {
  const { run, remove, change } = copy(t)
  remove('events.lock.json')
  t.match(await run('check'), { exitCode: 1, all: /BookAdded: version 1 is not locked[^]*npm run generate/ })
  t.match(await run('lock'), { exitCode: 0 })
  change('events.lock.json', '{\n  "BookAdded"', '{\n  BookAdded')
  t.match(await run('check'), { exitCode: 1, all: /books\/events\.lock\.json cannot be read/ })
})
