/** Mistakes that people make in a module do not compile, and the compiler points at the file at fault. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import t from 'tap'
import ts from 'typescript'

const root = resolve(import.meta.dirname, '../..')
const at = (file: string) => resolve(root, 'modules/books', file)
const { config } = ts.readConfigFile(resolve(root, 'tsconfig.json'), path => readFileSync(path, 'utf8'))
const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)

const cached = new Map<string, ts.SourceFile | undefined>()
let before: ts.Program | undefined

/** The files of the module that have errors when these files are as given. */
function errorsWith (changed: Readonly<Record<string, string>>): string[] {
  const host = ts.createCompilerHost(options)
  const read = host.getSourceFile.bind(host)
  host.getSourceFile = (path, ...rest) => {
    if (path in changed) return ts.createSourceFile(path, changed[path]!, ts.ScriptTarget.Latest, true)
    if (!cached.has(path)) cached.set(path, read(path, ...rest))
    return cached.get(path)
  }
  const program = ts.createProgram({ rootNames: [at('index.ts')], options, host, ...before && { oldProgram: before } })
  before ??= program
  const files = program.getSourceFiles().filter(({ fileName }) => fileName.startsWith(`${root}/modules/`))
  return files.filter(file => program.getSemanticDiagnostics(file).length > 0).map(({ fileName }) => fileName.slice(at('').length + 1))
}

/** The module with one text replaced, once, in one file. */
function planted (file: string, right: string, wrong: string): Record<string, string> {
  const text = readFileSync(at(file), 'utf8')
  if (text.split(right).length !== 2) throw new Error(`${file} has '${right}' not exactly once`)
  return { [at(file)]: text.replace(right, wrong) }
}

const mistakes: [string, string, string, string][] = [
  ['an event without a handler', 'catalogue.ts', '    BookWithdrawn: ({ id }) => remove(id)\n', ''],
  ['an event field misspelt where it is made', 'commands.ts', 'BookRevised(changes)', "BookRevised({ titel: 'Emma' })"],
  ['an event field misspelt where it is read', 'catalogue.ts', 'BookAdded: ({ id, version, record }) => insert({ _id: id, version, ...record })', 'BookAdded: ({ id, version, data }) => insert({ _id: id, version, title: data.titel, authors: data.authors })'],
  ['a misspelt RPC', 'queries.ts', 'batchGetBooks: {', 'batchGetBook: {'],
  ['a misspelt field of a request', 'queries.ts', 'async answer ({ ids }, { books })', 'async answer ({ idz: ids }, { books })'],
  ['a misspelt input field', 'commands.ts', 'decide: (_, details) => [BookAdded(canonical(details))]', 'decide: (_, details) => [BookAdded({ title: details.titel, authors: details.authors })]'],
  ['a misspelt field in an example', 'commands.ts', "example: { title: 'Emma'", "example: { titel: 'Emma'"],
  ['a missing case in evolve', 'book.ts', "    BookWithdrawn: state => ({ ...state, status: 'withdrawn' })\n", ''],
  ['a misspelt case in evolve', 'book.ts', 'BookWithdrawn: state =>', 'BookWithdrawnn: state =>']
]

t.test('the module as it is compiles', async t => {
  t.same(errorsWith({}), [])
})

for (const [mistake, file, right, wrong] of mistakes) {
  t.test(`${mistake} is a compile error in ${file}`, async t => {
    t.ok(errorsWith(planted(file, right, wrong)).includes(file))
  })
}
