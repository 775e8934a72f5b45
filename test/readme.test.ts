/** The README's session is true: its commands are run, and give what it shows. */
import { existsSync, readFileSync } from 'node:fs'
import { execa } from 'execa'
import t from 'tap'
import { pipeline, until } from './pipeline.ts'

interface Step { readonly command: string, readonly shown: string }

/** The commands of the README's console block, each with the output that is shown below it. */
function session (): Step[] {
  const block = /```console\n([\s\S]*?)```/.exec(readFileSync('README.md', 'utf8'))![1]!
  return block.split(/^\$ /m).slice(1).map(text => {
    const [command, ...shown] = text.split('\n')
    return { command: command!, shown: shown.join('\n').trim() }
  })
}

const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g

t.test('the session in the README gives what it shows', async t => {
  const line = await pipeline(t)
  const steps = session()
  t.ok(steps.length >= 6)
  const shownId = steps[0]!.shown.match(uuid)![0]
  let id = shownId
  for (const { command, shown } of steps) {
    const here = command
      .replaceAll('localhost:3000', new URL(line.gateway).host)
      .replaceAll('localhost:3001', new URL(line.query).host)
      .replaceAll('localhost:50051', line.grpc)
      .replaceAll(shownId, id)
    const run = async () => {
      const { stdout } = await execa({ shell: 'bash' })(here)
      return JSON.parse(stdout)
    }
    const first = await run()
    if (id === shownId) id = first.id
    // Ids of requests differ; the id of the book is the one that was made here.
    const plain = (output: unknown) => JSON.parse(JSON.stringify(output).replaceAll(shownId, id).replaceAll(uuid, found => found === id ? found : 'an id'))
    // What is read is there a moment after it was written; a command is given once.
    const reads = !/-d '.*"title"|-X/.test(command)
    const output = reads ? await until(async () => { const now = await run(); return JSON.stringify(plain(now)) === JSON.stringify(plain(JSON.parse(shown))) && now }, command).catch(() => first) : first
    t.same(plain(output), plain(JSON.parse(shown)), command)
  }
})

t.test('every verb that the README names is a script, and every file it links to is there', async t => {
  const readme = readFileSync('README.md', 'utf8')
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8'))
  const verbs = [...readme.matchAll(/^\| (`[^|]+) \|/gm)].flatMap(([, cell]) => [...cell!.matchAll(/`([a-z-]+)(?: --[^`]*)?`/g)].map(([, verb]) => verb!)).filter(verb => !['down', 'status', 'produce', 'consume'].includes(verb))
  t.ok(verbs.length >= 10, verbs.join(' '))
  for (const verb of verbs) t.ok(verb in scripts, `npm run ${verb}`)
  for (const [, file] of readme.matchAll(/\]\(([^)]+)\)/g)) t.ok(existsSync(file!), file!)
})
