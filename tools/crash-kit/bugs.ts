/** Bugs to plant: the crash kit is worth something only if it finds them. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

export interface Bug { readonly file: string, readonly right: string, readonly wrong: string }

export const bugs: Readonly<Record<string, Bug>> = {
  'confirm-before-ack': {
    file: 'plugins/events/relay.ts',
    right: `    if (outgoing.length > 0) await sendAll(producer, topic, outgoing.map(({ message }) => message))
    confirm(batch.at(-1)!.end)
`,
    // With a pause, as below: a send takes a few milliseconds.
    wrong: `    confirm(batch.at(-1)!.end)
    await setTimeout(300)
    if (outgoing.length > 0) await sendAll(producer, topic, outgoing.map(({ message }) => message))
`
  },
  'no-fence': {
    file: 'plugins/projections/apply.ts',
    right: 'updateOne({ _id, offset, sequence, build: build ?? { $exists: false } }, { $set: to }, within)',
    wrong: 'updateOne({ _id }, { $set: to }, within)'
  },
  'checkpoint-outside': {
    file: 'plugins/projections/apply.ts',
    right: 'updateOne({ _id, offset, sequence, build: build ?? { $exists: false } }, { $set: to }, within)',
    wrong: 'updateOne({ _id, offset, sequence, build: build ?? { $exists: false } }, { $set: to })'
  },
  'queue-checkpoint-first': {
    file: 'plugins/commands/dequeue.ts',
    right: '  const executed = await executor.executeAll(requests, order)',
    wrong: '  await outcomes.keep(own, Number(messages.at(-1)!.offset) + 1)\n  const executed = await executor.executeAll(requests, order)'
  },
  'queue-out-of-order': {
    file: 'plugins/commands/dequeue.ts',
    right: 'executor.executeAll(requests, order)',
    wrong: 'executor.executeAll(requests.toReversed(), order)'
  },
  'process-done-first': {
    file: 'plugins/commands/processes.ts',
    right: '    const [outcome] = await executor.executeAll(',
    // With a pause, so that a kill meets it: it would find a few milliseconds once in a minute.
    wrong: '    await db.executeQuery(settled(index))\n    await setTimeout(300)\n    const [outcome] = await executor.executeAll('
  },
  'resume-from-now': {
    file: 'plugins/queries/live/watcher.ts',
    right: 'await catchUp(watcher, turn, follower, mark)',
    wrong: '{ after: hub.feed.position }'
  },
  'answer-before-commit': {
    file: 'plugins/postgres/transaction.ts',
    right: 'if (begun || writes.length > 0) await new Batch(begun ? [...writes, commit] : writes).run(client)',
    wrong: 'if (begun || writes.length > 0) new Batch(begun ? [...writes, commit] : writes).run(client).catch(() => {})'
  }
}

const copied = ['apps', 'plugins', 'modules', 'proto', 'stack', 'tools', 'package.json', 'tsconfig.json']

/** Copies the project to a folder, with a bug in it; what is installed is linked. */
export function plant (name: string, folder: string): void {
  const bug = bugs[name]!
  const root = resolve('.')
  mkdirSync(folder, { recursive: true })
  for (const path of copied) cpSync(join(root, path), join(folder, path), { recursive: true, filter: source => !source.endsWith('/node_modules') })
  linkInstalled(join(root, 'node_modules'), join(folder, 'node_modules'))
  for (const path of nested(root)) symlinkSync(join(root, path), join(folder, path))
  const file = join(folder, bug.file)
  const text = readFileSync(file, 'utf8')
  if (!text.includes(bug.right)) throw new Error(`the bug ${name} has no place in ${bug.file} any more`)
  writeFileSync(file, text.replace(bug.right, bug.wrong))
}

/** The `node_modules` of single packages. */
const nested = (root: string): string[] => ['apps', 'plugins', '.'].flatMap(parent => readdirSync(join(root, parent)).map(name => join(parent, name, 'node_modules')))
  .filter(path => copied.includes(path.split('/')[0]!) && existsSync(join(root, path)))

/** Packages of others by a link; our own by the same relative links, which then lead into the copy. */
function linkInstalled (from: string, to: string) {
  mkdirSync(join(to, '@bifold'), { recursive: true })
  for (const name of readdirSync(from)) if (name !== '@bifold') symlinkSync(join(from, name), join(to, name))
  for (const name of readdirSync(join(from, '@bifold'))) symlinkSync(readlinkSync(join(from, '@bifold', name)), join(to, '@bifold', name))
}
