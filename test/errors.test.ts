/** docs/errors.md lists exactly the errors that the code declares. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { grpcCodes, grpcStatus, platformErrors, type DomainErrorClass } from '@bifold/cqrs'
import { modules } from '@bifold/modules'

const declared = [...platformErrors, ...modules.flatMap(({ errors }) => Object.values(errors))]

/** The row of an error in docs/errors.md. */
function row (error: DomainErrorClass<never>): string {
  const grpc = Object.entries(grpcCodes).find(([, code]) => code === grpcStatus({ statusCode: error.status }))![0]
  const { retryable } = new error(...[] as never) // eslint-disable-line new-cap
  return `| \`${error.code}\` | ${error.status} | ${grpc} | ${error.template.replaceAll('%s', '…')} | ${retryable ? 'yes' : ''} |`
}

t.test('docs/errors.md and the code list the same errors, in the same words', async t => {
  const listed = readFileSync('docs/errors.md', 'utf8').split('\n').filter(line => line.startsWith('| `'))
  t.same(listed.toSorted(), declared.map(row).toSorted())
})

t.test('no error is made that is not declared: in platformErrors, or in the errors of a module', async t => {
  const paths = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard', 'apps/**.ts', 'plugins/**.ts', 'modules/**.ts'], { encoding: 'utf8' }).split('\0')
  const made = paths.filter(path => path !== '' && !path.endsWith('.test.ts'))
    .flatMap(path => [...readFileSync(path, 'utf8').matchAll(/^(?:export )?const \w+ = createError(?:<.*?>)?\('(\w+)'/gm)].map(([, code]) => code!))
  t.same(made.toSorted(), declared.map(({ code }) => code).toSorted())
})

t.test('no two errors share a code', async t => {
  t.equal(new Set(declared.map(({ code }) => code)).size, declared.length)
})
