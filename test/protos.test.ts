/** `npm run check:proto` refuses a .proto file that clients of the last release could not speak any more, and lets it grow. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import t, { type Test } from 'tap'

const root = join(import.meta.dirname, '..')

/** What buf says of a copy of the protos in which the text was changed; the command is that of package.json. */
async function breaking (t: Test, change: (proto: string) => string) {
  const folder = mkdtempSync(join(tmpdir(), 'bifold-protos-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  cpSync(join(root, 'proto'), join(folder, 'proto'), { recursive: true, filter: path => !/node_modules|gen$/.test(path) })
  const file = join(folder, 'proto/books/v1/books.proto')
  const [before, after] = [readFileSync(file, 'utf8'), change(readFileSync(file, 'utf8'))]
  if (before === after) throw new Error('the change was planted wrongly')
  writeFileSync(file, after)
  const command = /buf breaking [^&]+/.exec(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).scripts['check:proto'])![0]
  return await execa(command, { cwd: folder, shell: true, preferLocal: true, localDir: root, reject: false, all: true })
}

t.test('a field that is gone, of another type or of another name is refused', async t => {
  for (const change of [
    (proto: string) => proto.replace(/\n.* title = \d+;/, ''),
    (proto: string) => proto.replace(/string title = /, 'int32 title = '),
    (proto: string) => proto.replace(/string title = /, 'string titel = '),
    (proto: string) => proto.replace(/\n.*rpc GetBook[^;}]*[;}]/, '')
  ]) {
    const { exitCode, all } = await breaking(t, change)
    t.not(exitCode, 0)
    t.match(all, /books\.proto:\d+:\d+:.*(title|GetBook)/)
  }
})

t.test('a new field and a new message are fine', async t => {
  const { exitCode, all } = await breaking(t, proto => `${proto.replace(/message Book \{/, 'message Book {\n  optional string mood = 1000;')}\nmessage Shelf {\n  string id = 1;\n}\n`)
  t.equal(exitCode, 0, all)
})
