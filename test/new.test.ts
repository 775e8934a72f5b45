/** `npm run new`: the module that it writes works as it is. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import t from 'tap'
import { checkout } from './checkout.ts'

t.test('npm run new -- module NAME', async t => {
  const cwd = checkout(t)
  const run = async (...command: string[]) => await execa(command[0]!, command.slice(1), { cwd, reject: false, all: true, stdin: 'ignore' })
  const works = async (...command: string[]) => {
    const { exitCode, all } = await run(...command)
    t.equal(exitCode, 0, `${command.join(' ')}: ${exitCode === 0 ? 'passed' : all}`)
    return all
  }

  t.match(await works('npm', 'run', 'new', '--', 'module', 'reviews'), /modules\/reviews\/review\.ts[^]*It works as it is/)
  t.match(await works('npm', 'run', 'new', '--', 'module', 'categories', '--one', 'category'), /modules\/categories\/category\.ts/)
  t.match(readFileSync(join(cwd, 'modules/index.ts'), 'utf8'), /import \{ reviews \} from '\.\/reviews\/index\.ts'\nimport \{ categories \} from '\.\/categories\/index\.ts'\n[^]*reviews, categories\]/)

  await works('node', 'modules/reviews/reviews.test.ts')
  await works('node', 'modules/categories/categories.test.ts')
  await works('node', 'test/errors.test.ts')
  await works('npx', 'tsc', '--noEmit')
  await works('npx', 'eslint', 'modules', 'proto/index.ts', '--max-warnings', '0')
  await works('npm', 'run', 'check:proto')
  await works('npm', 'run', 'check:events')

  for (const [names, reason] of [
    [['reviews'], /modules\/reviews is there already/],
    [['books'], /modules\/books is there already/],
    [['Reviews'], /small letters/],
    [['../x'], /small letters/],
    [['news-items'], /small letters/],
    [['sheep'], /to be a plural: say what one of them is called, by --one/]
  ] as const) t.match(await run('npm', 'run', 'new', '--', 'module', ...names), { exitCode: 1, all: reason })
  t.notOk(existsSync(join(cwd, 'modules/sheep')), 'nothing is half done')

  const changed = async () => (await run('git', 'status', '--porcelain', '--untracked-files=all')).all.split('\n').filter(line => !line.startsWith('A '))
  await run('git', 'add', '.')
  for (const [name, reason] of [
    ['cases', /^Nothing was changed, since npm run generate fails with a module 'cases': Expression expected$/m], // `case` is a word of the language
    ['members', /^Nothing was changed, since .* 'members': Two modules, or one of them twice, have the aggregate 'members'$/m]
  ] as const) {
    t.match(await run('npm', 'run', 'new', '--', 'module', name), { exitCode: 1, all: reason })
    t.same(await changed(), [], 'all is as it was')
  }
})
