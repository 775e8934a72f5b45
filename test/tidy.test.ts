/** The project's taste as a test, after TigerBeetle's `tidy`: what a reader may rely on in every file. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import t from 'tap'
import ts from 'typescript'

interface SourceFile { readonly path: string, readonly text: string }

const functionLinesMax = 70 // what a screen shows

/** Each rule gives the complaints about one file. */
const rules: Record<string, (file: SourceFile) => string[]> = {
  'opens with one sentence that says its job' ({ path, text }) {
    if (!path.endsWith('.ts') || path.endsWith('.d.ts')) return []
    return /^\/\*\*(?:\s|\*)*\S[\s\S]*?[.:?]/.test(text) ? [] : ['no opening comment']
  },
  'has no function of more than 70 lines' ({ path, text }) {
    if (!path.endsWith('.ts')) return []
    const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true)
    const complaints: string[] = []
    const line = (at: number) => source.getLineAndCharacterOfPosition(at).line + 1
    const visit = (node: ts.Node) => {
      if (ts.isFunctionLike(node) && 'body' in node && node.body !== undefined) {
        const lines = line(node.getEnd()) - line(node.getStart()) + 1
        if (lines > functionLinesMax) complaints.push(`line ${line(node.getStart())}: ${lines} lines`)
      }
      ts.forEachChild(node, visit)
    }
    visit(source)
    return complaints
  },
  'is named in kebab-case after its content' ({ path }) {
    const name = basename(path, '.ts')
    if (!path.endsWith('.ts')) return []
    if (/^(utils?|helpers?|common|base|impl|managers?)(\.|$)/.test(name)) return ['the name says nothing']
    return /^[a-z0-9]+(-[a-z0-9]+)*(\.(test|d|config))?$/.test(name) ? [] : ['not kebab-case']
  },
  'leaves nothing to do without an issue': ({ text }) => /\b(TODO|FIXME|XXX)\b(?! *#\d)/.test(text) ? ['TODO without an issue'] : [],
  'names no registry and no path of a machine': ({ text }) => [...text.matchAll(/registry\.npmjs|repo1?\.maven|pypi\.org|files\.pythonhosted|crates\.io|proxy\.golang|deb\.debian|(?<![\w.])\/(root|home\/\w+|work)\//g)].map(([found]) => found)
}

const ownText = new Set(['test/tidy.test.ts', 'package-lock.json'])

t.test('every file is tidy', async t => {
  const paths = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { encoding: 'utf8' }).trim().split('\n')
    .filter(path => existsSync(path) && !path.startsWith('proto/gen/') && !path.startsWith('data/') && !ownText.has(path))
  t.ok(paths.length > 100, `${paths.length} files`)
  for (const [rule, check] of Object.entries(rules)) {
    const complaints = paths.flatMap(path => check({ path, text: readFileSync(path, 'utf8') }).map(complaint => `${path}: ${complaint}`))
    t.same(complaints, [], `each ${rule}`)
  }
})

t.test('every plugin has a README of at most 25 lines', async t => {
  const folders = [...new Set(execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', 'plugins'], { encoding: 'utf8' }).trim().split('\n').map(path => path.split('/').slice(0, 2).join('/')))]
  const wrong = folders.filter(folder => !existsSync(`${folder}/README.md`) || readFileSync(`${folder}/README.md`, 'utf8').split('\n').length > 26)
  t.same(wrong, [])
})

t.test('no file is dead: each is reached from an entry point', async t => {
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.ts'], { encoding: 'utf8' }).trim().split('\n').filter(path => existsSync(path) && !path.endsWith('.d.ts') && !path.startsWith('proto/gen/'))
  const manifests = ['package.json', '.taprc', ...execFileSync('git', ['ls-files', '*/package.json'], { encoding: 'utf8' }).trim().split('\n')].map(path => [dirname(path), readFileSync(path, 'utf8')] as const)
  const named = (file: string) => manifests.some(([folder, text]) => text.includes(file) || (file.startsWith(`${folder}/`) && text.includes(`./${file.slice(folder.length + 1)}`)) || (folder === dirname(file) && text.includes(`${basename(file)}`)))
  const imported = new Set(files.flatMap(file => [...readFileSync(file, 'utf8').matchAll(/from '(\.{1,2}\/[^']+)'|new URL\('(\.{1,2}\/[^']+)'/g)].map(([, one, two]) => new URL((one ?? two)!, `file:///${file}`).pathname.slice(1))))
  t.same(files.filter(file => !file.endsWith('.test.ts') && !/^apps\/\w+\/main\.ts$/.test(file) && !named(file) && !imported.has(file)), [])
})

t.test('the rules can fail', async t => {
  const bad: SourceFile = { path: 'plugins/x/Utils.ts', text: `export function f () {\n${'  f()\n'.repeat(80)}}\n// TODO later, see /home/me/notes\n` }
  for (const [rule, check] of Object.entries(rules)) t.ok(check(bad).length > 0, rule)
  t.ok(rules['is named in kebab-case after its content']!({ path: 'a/helpers.ts', text: '' }).length > 0)
})
