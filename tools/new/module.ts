/** Writes a small module that works, from the files in template/: `thing` and `things` become the names that were asked for. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

/** The paths that were written, from the root. */
export interface Written {
  readonly paths: readonly string[]
  /** Leaves everything as it was before, without what was generated since. */
  undo (): void
}

/** How a domain is called: `reviews`, and `review` for one of them. */
export interface Names { readonly many: string, readonly one: string }

const template = join(import.meta.dirname, 'template')
const lengthMax = 40 // a table, a collection and a package have to bear the name

/**
 * The names, checked.
 *
 * @param one the singular; without it, `many` has to end with a plain `s`
 * @throws an error that says what a name has to be like
 */
export function namesOf (many: string, one = many.replace(/s$/, '')): Names {
  for (const name of [many, one]) {
    if (!/^[a-z]+$/.test(name) || name.length > lengthMax) throw new Error(`'${name}' is no name for a module: small letters a to z, at most ${lengthMax}, such as 'reviews'`)
  }
  if (many === one) throw new Error(`'${many}' is to be a plural: say what one of them is called, by --one`)
  return { many, one }
}

/**
 * Writes modules/<many>/ and proto/<many>/v1/, and the lines that list them.
 *
 * @param root the repository's
 * @throws if there is such a module; then nothing is written
 */
export function writeModule (root: string, names: Names): Written {
  const { many, one } = names
  const into = (name: string) => named(names, name.endsWith('.proto') ? join('proto', 'things', 'v1', name) : join('modules', 'things', name))
  const files = readdirSync(template).map((file): [string, string] => [into(basename(file, '.tmpl')), named(names, readFileSync(join(template, file), 'utf8'))])
  const folders = ['modules', 'proto', 'proto/gen'].map(folder => join(folder, many))
  for (const folder of folders) {
    if (existsSync(join(root, folder))) throw new Error(`${folder} is there already`)
  }
  const lists = [
    listed(root, 'modules/index.ts', [
      [/(?:^import .*\n)+/m, imports => `${imports}import { ${many} } from './${many}/index.ts'\n`],
      [/(modules = .*)\]/, (_, before) => `${before}, ${many}]`]
    ]),
    listed(root, 'proto/index.ts', [[/(?:^export \* as .*\n)+/m, exports => `${exports}export * as ${many}V1 from './gen/${many}/v1/${many}.ts'\n`]]),
    listed(root, 'docs/errors.md', [[/(?:^\| `.*\n)+/m, rows => `${rows}${errorRows(many, one)}`]])
  ]
  const before = lists.map(([path]): [string, string] => [path, readFileSync(join(root, path), 'utf8')])
  const write = (texts: readonly [string, string][]) => {
    for (const [path, text] of texts) {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), text)
    }
  }
  write([...files, ...lists])
  return {
    paths: [...files, ...lists].map(([path]) => path),
    undo () {
      for (const folder of folders) rmSync(join(root, folder), { recursive: true, force: true })
      write(before)
    }
  }
}

const capital = (name: string) => name[0]!.toUpperCase() + name.slice(1)

/** A text of the template with these names. */
function named ({ many, one }: Names, text: string): string {
  const words = new Map([['THINGS', many.toUpperCase()], ['Things', capital(many)], ['things', many], ['Thing', capital(one)], ['thing', one]])
  return text.replaceAll(/THINGS|Things?|(?<![a-z])things?/g, word => words.get(word)!) // and not the end of `nothing`
}

type Edit = readonly [where: RegExp, change: (found: string, ...groups: string[]) => string]

/** A file with lines added. */
function listed (root: string, path: string, edits: readonly Edit[]): [string, string] {
  return [path, edits.reduce((text, [where, change]) => {
    if (!where.test(text)) throw new Error(`${path} has no place for the module where one is expected: ${String(where)}`)
    return text.replace(where, change)
  }, readFileSync(join(root, path), 'utf8'))]
}

const errorRows = (many: string, one: string): string => [
  `| \`${many.toUpperCase()}_NOT_FOUND\` | 404 | NOT_FOUND | ${capital(one)} '…' does not exist |  |\n`,
  `| \`${many.toUpperCase()}_REMOVED\` | 409 | ABORTED | ${capital(one)} '…' was removed |  |\n`
].join('')
