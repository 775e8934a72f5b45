/** The command line that begins a domain: `npm run new -- module reviews`. */
import { resolve } from 'node:path'
import { Command } from 'commander'
import { execa, type ExecaError } from 'execa'
import { reason } from '@bifold/service'
import { namesOf, writeModule } from './module.ts'

const root = resolve(import.meta.dirname, '../..')

const program = new Command('new').description('Writes what a new domain begins with.')
program.command('module').description('a small module that works: rules, a projection, queries, a proto file, tests')
  .argument('<plural>', 'its name, the first part of its routes, such as reviews')
  .option('--one <singular>', 'what one of them is called, if it is not the name without its s')
  .action(module)
await program.parseAsync()

async function module (plural: string, { one }: { one?: string }) {
  try {
    const names = namesOf(plural, one)
    const written = writeModule(root, names)
    // A word of the language, or a name that another domain has, shows only here.
    await execa('npm', ['run', '--silent', 'generate'], { cwd: root, stdout: 'inherit' }).catch((error: ExecaError) => {
      written.undo()
      const why = String(error.stderr || error.shortMessage).replaceAll('\n', '; ')
      throw new Error(`Nothing was changed, since npm run generate fails with a module '${plural}': ${why}`, { cause: error })
    })
    console.log(`${written.paths.join('\n')}\n\nIt works as it is:\n  npx tap modules/${plural}\n  npm start\n  curl -s localhost:3000/${plural} -H 'content-type: application/json' -d '{"name":"The first"}'\n\ndocs/tutorial.md goes on from here.`)
  } catch (error) {
    console.error(reason(error))
    process.exitCode = 1
  }
}
