/** Mistakes that people make in a module do not compile, and the compiler points at the file at fault. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import t from 'tap'
import ts from 'typescript'

interface Mistake { readonly name: string, readonly module?: string, readonly file: string, readonly right: string, readonly wrong: string, readonly says: RegExp }

const mistakes: Mistake[] = [
  { name: 'an event without a handler', file: 'catalogue.ts', right: '    BookWithdrawn: ({ id }) => remove(id)\n', wrong: '', says: /'BookWithdrawn' is missing/ },
  { name: 'a misspelt handler', file: 'catalogue.ts', right: 'BookWithdrawn: (', wrong: 'BookWithdrawnn: (', says: /'BookWithdrawnn' does not exist/ },
  { name: 'an event field misspelt where it is made', file: 'commands.ts', right: 'BookRevised(changes)', wrong: "BookRevised({ titel: 'Emma' })", says: /'titel' does not exist/ },
  { name: 'an event field misspelt where it is read', file: 'catalogue.ts', right: 'BookAdded: ({ id, version, record }) => insert({ _id: id, version, ...record })', wrong: 'BookAdded: ({ id, version, data }) => insert({ _id: id, version, title: data.titel, authors: data.authors })', says: /'titel' does not exist/ },
  { name: 'a misspelt RPC', file: 'queries.ts', right: 'batchGetBooks: {', wrong: 'batchGetBook: {', says: /'batchGetBook' does not exist/ },
  { name: 'a misspelt field of a request', file: 'queries.ts', right: 'async answer ({ ids }, { books })', wrong: 'async answer ({ idz: ids }, { books })', says: /'idz' does not exist/ },
  { name: "a field misspelt in a request's schema", file: 'queries.ts', right: 'input: Type.Object({ ids: ', wrong: 'input: Type.Object({ idz: ', says: /'ids' is missing/ },
  { name: 'a misspelt field to filter by', file: 'queries.ts', right: "  published_year: 'number',\n", wrong: "  published_yaer: 'number',\n", says: /'published_yaer' does not exist|Did you mean to write 'published_year'/ },
  { name: 'a field to filter by of another type', file: 'queries.ts', right: "  pages: 'number',\n", wrong: "  pages: 'text',\n", says: /'"text"' is not assignable to type '"number"'/ },
  { name: 'a misspelt field to order by', file: 'queries.ts', right: "['id', 'title', 'published_year']", wrong: "['id', 'titel', 'published_year']", says: /'"titel"' is not assignable/ },
  { name: 'a misspelt input field', file: 'commands.ts', right: 'decide: (_, details) => [BookAdded(canonical(details))]', wrong: 'decide: (_, details) => [BookAdded({ title: details.titel, authors: details.authors })]', says: /'titel' does not exist/ },
  { name: 'a misspelt field in an example', file: 'commands.ts', right: "example: { title: 'Emma'", wrong: "example: { titel: 'Emma'", says: /'titel' does not exist/ },
  { name: 'a missing case in evolve', file: 'book.ts', right: "    BookWithdrawn: state => ({ ...state, status: 'withdrawn' })\n", wrong: '', says: /'BookWithdrawn' is missing/ },
  { name: 'a misspelt case in evolve', file: 'book.ts', right: 'BookWithdrawn: state =>', wrong: 'BookWithdrawnn: state =>', says: /'BookWithdrawnn' does not exist/ },
  { name: 'a new version without the step to it', file: 'book.ts', right: "event('BookAdded', 'insert', BookDetails)", wrong: "event('BookAdded', 'insert', BookDetails, { version: 3, upcast: { 1: {} } })", says: /Property '2' is missing/ },
  { name: "a step that ends in another shape than today's", file: 'book.ts', right: "event('BookAdded', 'insert', BookDetails)", wrong: "event('BookAdded', 'insert', BookDetails, { version: 2, upcast: { 1: { data: ({ name }) => ({ titel: name, authors: [] }) } } })", says: /'titel' does not exist|Property 'title' is missing/ },
  { name: 'a misspelt aggregate that a command sees', module: 'lending', file: 'commands.ts', right: 'seen: { member, book } }) => {', wrong: 'seen: { member, buch: book } }) => {', says: /'buch' does not exist/ },
  { name: 'an event recorded on an aggregate that has none of that type', module: 'lending', file: 'commands.ts', right: 'on(member, MemberBorrowed({ loanId: id }))', wrong: "on(member, LoanRenewed({ dueOn: '' }))", says: /"LoanRenewed"/ },
  { name: "an event recorded on another module's aggregate", module: 'lending', file: 'commands.ts', right: 'on(member, MemberBorrowed({ loanId: id }))', wrong: "on(book, { type: 'BookWithdrawn', data: {} })", says: /not assignable to parameter of type 'never'/ }
]

const root = resolve(import.meta.dirname, '../..')
const originals = Object.fromEntries(['books', 'lending'].map(module => [module, filesOf(resolve(root, 'modules', module))]))
const originalOf = ({ module = 'books' }: { module?: string } = {}) => originals[module]!

function filesOf (folder: string): Readonly<Record<string, string>> {
  const names = readdirSync(folder).filter(name => name.endsWith('.ts') && !name.endsWith('.test.ts'))
  return Object.fromEntries(names.map(name => [name, readFileSync(resolve(folder, name), 'utf8')]))
}

/** Where a copy of the module stands, beside the real one; in the compiler's eyes only. */
const copy = (number: number) => resolve(root, `modules/copy-${number}`)

/** One program with a copy of the module for each mistake, and one without: the libraries are checked once for all. */
function compile (): ts.Program {
  const { config } = ts.readConfigFile(resolve(root, 'tsconfig.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  const texts = new Map([undefined, ...mistakes].flatMap((mistake, number) =>
    Object.entries(originalOf(mistake)).map(([name, text]) => [resolve(copy(number), name), mistake?.file === name ? text.replace(mistake.right, mistake.wrong) : text] as const)))
  const folders = new Set([...texts.keys()].map(path => dirname(path)))
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile, directoryExists } = host
  host.fileExists = path => texts.has(path) || fileExists(path)
  host.readFile = path => texts.get(path) ?? readFile(path)
  host.directoryExists = path => folders.has(path) || directoryExists!(path)
  return ts.createProgram({ rootNames: [...texts.keys()], options, host })
}

const program = compile()

/** What the compiler says about one file of a copy. */
function complaints (number: number, name: string): string[] {
  const file = program.getSourceFile(resolve(copy(number), name))!
  const parsed = program.getSyntacticDiagnostics(file)
  if (parsed.length > 0) throw new Error(`${name} is no TypeScript: the mistake was planted wrongly`)
  return program.getSemanticDiagnostics(file).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
}

t.test('the module as it is compiles', async t => {
  for (const name of Object.keys(originalOf())) t.same(complaints(0, name), [], name)
})

for (const [index, mistake] of mistakes.entries()) {
  const { name, file, right, says } = mistake
  t.test(`${name} is a compile error in ${file}`, async t => {
    t.equal(originalOf(mistake)[file]!.split(right).length, 2, 'it is planted in one place')
    t.ok(complaints(index + 1, file).some(complaint => says.test(complaint)), `the compiler says ${says}`, { complaints: complaints(index + 1, file) })
  })
}
