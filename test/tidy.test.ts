/** The project's taste as a test, after TigerBeetle's `tidy`: what a reader may rely on in every file. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join, matchesGlob } from 'node:path'
import t from 'tap'
import ts from 'typescript'

interface SourceFile { readonly path: string, readonly text: string }

const functionLinesMax = 70 // what a screen shows
const readmeLinesMax = 25 // a plugin that needs more is two
const isCode = (path: string) => /\.[cm]?[jt]s$/.test(path)
const isLock = (path: string) => path === 'package-lock.json' // written by npm: hashes look like anything

/** Each rule gives the complaints about one file. The patterns are written so that they do not find themselves. */
const rules: Record<string, (file: SourceFile) => string[]> = {
  'opens with one sentence that says its job' ({ path, text }) {
    if (!path.endsWith('.ts')) return []
    const [, comment] = /^\/\*\*((?:(?!\*\/)[^])*)\*\//.exec(text) ?? []
    return /\w.*[.:?][\s*)]*$/s.test(comment ?? '') ? [] : ['no opening sentence']
  },
  'has no function of more than 70 lines' ({ path, text }) {
    if (!isCode(path)) return []
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
    if (!isCode(path)) return []
    if (/^(utils?|helpers?|common|base|impl|managers?)\./.test(basename(path))) return ['the name says nothing']
    return /^\.?[a-z0-9]+(-[a-z0-9]+)*(\.(test|d|config))?\.[cm]?[jt]s$/.test(basename(path)) ? [] : ['not kebab-case']
  },
  'leaves nothing to do without an issue' ({ path, text }) {
    return !isLock(path) && /\b(T[O]DO|F[I]XME|X[X]X)\b(?! *#\d)/.test(text) ? ['to do, without an issue'] : []
  },
  'names no registry' ({ text }) {
    return found(text, /[\w.-]*\b(npmjs|npmmirror|yarnpkg|pypi|pythonhosted|crates|golang|maven(\.apache)?|debian)\.(org|com|io)\b/g)
  },
  'names no path of a machine' ({ path, text }) {
    return isLock(path) ? [] : found(text, /(?<![\w.:/-])\/(root|work|tmp|mnt|home\/\w+|Users\/\w+)\/\w+/g)
  }
}

const found = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([all]) => all)

/** The plugin folders without a short README. */
function withoutReadme (files: readonly SourceFile[]): string[] {
  const folders = new Set(files.flatMap(({ path }) => /^plugins\/[^/]+(?=\/)/.exec(path)?.[0] ?? []))
  return [...folders].filter(folder => {
    const readme = files.find(({ path }) => path === `${folder}/README.md`)
    return readme === undefined || readme.text.trimEnd().split('\n').length > readmeLinesMax
  })
}

/** The files that are not reached from a test, an app's main.ts, a benchmark's contender, the crash kit's projector, a script, an export of a package or .taprc. */
function dead (files: readonly SourceFile[]): string[] {
  const code = new Map(files.filter(({ path }) => path.endsWith('.ts') && !path.endsWith('.d.ts')).map(({ path, text }) => [path, text]))
  const named = files.filter(({ path }) => path === '.taprc' || basename(path) === 'package.json')
    .flatMap(({ path, text }) => [...text.matchAll(/[\w./-]+\.ts\b/g)].map(([name]) => join(dirname(path), name)))
  const reached = new Set<string>()
  const next = [...code.keys()].filter(path => path.endsWith('.test.ts') || matchesGlob(path, '{apps/*/main,benchmarks/contenders/*,plugins/service/workers-app,tools/crash-kit/projector}.ts') || named.includes(path))
  for (let path = next.pop(); path !== undefined; path = next.pop()) {
    if (reached.has(path)) continue
    reached.add(path)
    const from = dirname(path)
    const urls = [...code.get(path)!.matchAll(/new URL\('([^']+)', import\.meta\.url\)|import\.meta\.dirname, '([^']+)'/g)].map(([, one, two]) => (one ?? two)!)
    const imports = ts.preProcessFile(code.get(path)!, true, true).importedFiles.map(({ fileName }) => fileName).filter(name => name.startsWith('.'))
    next.push(...[...imports, ...urls].map(name => join(from, name)).filter(name => code.has(name)))
  }
  return [...code.keys()].filter(path => !reached.has(path))
}

const files: SourceFile[] = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { encoding: 'utf8' }).split('\0')
  .filter(path => path !== '' && existsSync(path) && !path.startsWith('proto/gen/') && !path.startsWith('data/'))
  .map(path => ({ path, text: readFileSync(path, 'utf8') }))

t.test('every file is tidy', async t => {
  t.ok(files.length > 100, `${files.length} files`)
  for (const [rule, check] of Object.entries(rules)) {
    t.same(files.flatMap(file => check(file).map(complaint => `${file.path}: ${complaint}`)), [], `each ${rule}`)
  }
})

t.test('every plugin has a README of at most 25 lines', async t => {
  t.same(withoutReadme(files), [])
})

t.test('no file is dead: each is reached from an entry point', async t => {
  t.same(dead(files), [])
})

t.test('each rule can fail', async t => {
  const host = ['registry', 'npmjs', 'org'].join('.')
  const bad: SourceFile = { path: 'plugins/x/badName.ts', text: `export function f () {\n${'  f()\n'.repeat(80)}}\n// T${'ODO'} later, see ${'/home'}/me/notes and https://${host}/x\n` }
  for (const [rule, check] of Object.entries(rules)) t.ok(check(bad).length > 0, rule)
  for (const name of ['helpers', 'utils', 'common', 'base', 'manager', 'impl']) t.ok(rules['is named in kebab-case after its content']!({ path: `plugins/x/${name}.ts`, text: '' }).length > 0, `${name}.ts`)
  t.ok(rules['opens with one sentence that says its job']!({ path: 'a.ts', text: "/** a word */\nimport './b.ts' // one." }).length > 0, 'a comment that is no sentence')
  t.ok(rules['has no function of more than 70 lines']!({ path: 'a.ts', text: `const f = () => {\n${'//\n'.repeat(70)}}` }).length > 0, 'an arrow function')
})

t.test('the rules for folders can fail', async t => {
  const readme = (path: string, lines: number) => ({ path, text: 'line\n'.repeat(lines) })
  t.same(withoutReadme([readme('plugins/a/index.ts', 1), readme('plugins/b/README.md', 26), readme('plugins/c/README.md', 25)]), ['plugins/a', 'plugins/b'])
  const code = (path: string, text: string) => ({ path, text })
  t.same(dead([
    code('package.json', '{ "scripts": { "x": "node tools/x.ts" } }'), code('plugins/a/package.json', '{ "exports": "./index.ts" }'),
    code('tools/x.ts', "import './y.ts'\nawait import('./z.ts')"), code('tools/y.ts', "new URL('./w.ts', import.meta.url)"), code('tools/z.ts', ''), code('tools/w.ts', ''),
    code('plugins/a/index.ts', ''), code('plugins/a/one.ts', "export * from './two.ts'"), code('plugins/a/two.ts', "// import './one.ts'\nimport './one.ts'")
  ]), ['plugins/a/one.ts', 'plugins/a/two.ts'], 'two files that only know each other are dead')
})
