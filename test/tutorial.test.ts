/** docs/tutorial.md, step by step on a copy of the checkout: the changes fit, the commands succeed, and the session gives what it shows. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import t from 'tap'
import { checkout } from './checkout.ts'
import { startProcess, stores, until, type AppProcess } from './pipeline.ts'

/** A fenced block, and the paths of files that the text since the one before has named. */
interface Block { readonly kind: string, readonly text: string, readonly named: readonly string[] }

function blocks (): Block[] {
  const tutorial = readFileSync('docs/tutorial.md', 'utf8')
  const found: Block[] = []
  let end = 0
  for (const match of tutorial.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)) {
    const named = [...tutorial.slice(end, match.index).matchAll(/`([\w./-]+\.(?:ts|proto|md))`/g)].map(([, path]) => path!)
    // A block that stands right below another is of the same files.
    found.push({ kind: match[1]!, text: match[2]!, named: named.length > 0 ? named : found.at(-1)?.named ?? [] })
    end = match.index + match[0].length
  }
  return found
}

/** What a diff without line numbers takes away, and what it puts there. */
function sides (diff: string): [before: string, after: string] {
  const lines = diff.replace(/\n$/, '').split('\n')
  const side = (mark: '-' | '+') => lines.filter(line => line.startsWith(mark) || line.startsWith(' ')).map(line => line.slice(1)).join('\n')
  return [side('-'), side('+')]
}

/** Makes a change in the one of these files that it fits. */
function change (cwd: string, diff: string, files: readonly string[]): void {
  const [before, after] = sides(diff)
  const fitting = files.filter(file => existsSync(join(cwd, file)) && readFileSync(join(cwd, file), 'utf8').split(before).length === 2)
  if (fitting.length !== 1) throw new Error(`a change fits ${fitting.length} of ${files.join(', ')}:\n${diff}`)
  const path = join(cwd, fitting[0]!)
  writeFileSync(path, readFileSync(path, 'utf8').replace(before, () => after))
}

const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g
const names = ['gateway', 'relay', 'projector', 'query'] as const

t.test('the tutorial', async t => {
  const cwd = checkout(t)
  let ids: string[] = []
  let apps: AppProcess[] | undefined

  /** The apps of the copy, ready. */
  const started = async () => {
    if (apps !== undefined) return apps
    const settings = await stores(t)
    apps = await Promise.all(names.map(async name => await startProcess(t, name, settings, join(cwd, 'apps', name, 'main.ts'))))
    for (const { url } of apps) await until(async () => (await fetch(`${url}/health/ready`)).ok, `${url} to be ready`)
    return apps
  }
  const curl = async (command: string, shown: string) => {
    const [gateway, , , query] = await started()
    const [shownId] = shown.match(uuid) ?? command.match(uuid) ?? []
    const here = ids.length === 0 ? command : command.replaceAll(uuid, ids[0]!)
    const run = async () => JSON.parse((await execa({ shell: 'bash' })(here.replaceAll('localhost:3000', new URL(gateway!.url).host).replaceAll('localhost:3001', new URL(query!.url).host))).stdout)
    const plain = (output: unknown) => JSON.parse(JSON.stringify(output).replaceAll(uuid, found => ids.includes(found) || found === shownId ? 'the id' : 'an id'))
    const first = await run()
    if (ids.length === 0) ids = [first.id]
    const expected = plain(JSON.parse(shown))
    // What is read is there a moment after it was written; a command is given once.
    const output = / -d | -X /.test(command) ? first : await until(async () => { const now = await run(); return JSON.stringify(plain(now)) === JSON.stringify(expected) && now }, command).catch(() => first)
    t.same(plain(output).requestId === undefined ? plain(output) : { ...plain(output), requestId: 0 }, expected.requestId === undefined ? expected : { ...expected, requestId: 0 }, command)
  }

  let commands = 0
  for (const { kind, text, named } of blocks()) {
    if (kind === 'diff') change(cwd, text, named)
    else if (kind === 'ts') writeFileSync(join(cwd, named.at(-1)!), text)
    else {
      for (const step of text.split(/^\$ /m).slice(1)) {
        const [command, ...shown] = step.trimEnd().split('\n')
        commands++
        if (command!.startsWith('curl')) {
          await curl(command!, shown.join('\n'))
          continue
        }
        // The tests' stack is the original's, and already up: a module's tests need none.
        const here = command!.replace('npx tap modules/reviews', 'node modules/reviews/reviews.test.ts')
        const { exitCode, all } = await execa({ shell: 'bash', cwd, reject: false, all: true, stdin: 'ignore' })(here)
        t.equal(exitCode, 0, `${command}: ${exitCode === 0 ? 'passed' : all}`)
      }
    }
  }
  t.ok(commands >= 14, `${commands} commands`)
})
