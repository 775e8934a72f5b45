/** Filters of lists, after AIP-160: what callers write becomes a filter of MongoDB, in which their words are values only. */
import { pathOf, type ProtoName } from './names.ts'
import type { Format } from './module.ts'

/** A filter of MongoDB. */
export type Where = Readonly<Record<string, unknown>>

/** What a field holds. */
type Kind = 'text' | 'number' | 'list of texts'

type KindOf<Value> = NonNullable<Value> extends string ? 'text' : NonNullable<Value> extends number ? 'number' : NonNullable<Value> extends readonly string[] ? 'list of texts' : never

/** The fields that may be filtered by, by their names in the .proto file; a misspelt one does not compile. */
export type Filterable<View> = { readonly [Field in keyof View & string as ProtoName<Field>]?: KindOf<View[Field]> }

/** A format for the schema of the field `filter`, and what a filter of that format means. */
export interface Filters extends Format {
  /** @throws Error with the place and what is wrong there, for a text that is not of the format */
  where (text: string): Where
}

const depthMax = 20 // parentheses and NOTs within each other; MongoDB takes a hundred levels

const comparisons: Readonly<Record<string, string>> = { '=': '$eq', '!=': '$ne', '<': '$lt', '<=': '$lte', '>': '$gt', '>=': '$gte' }

/**
 * Declares by which fields a list is filtered.
 *
 * Restrictions are `field = value`, with `!=`, `<`, `<=`, `>` and `>=` too, `list:value` for a list that has the value, and
 * `field:*` for what has the field. Values are bare words, numbers, or texts in quotes with `\` before a quote. They are joined with
 * AND, OR, NOT and parentheses; OR binds before AND, as in AIP-160. A field that is missing is unequal to everything.
 *
 * @example
 * const filter = filters<BookView>({ title: 'text', published_year: 'number', authors: 'list of texts' })
 * filter.where('authors:"Jane Austen" AND published_year >= 1815') // { $and: [{ authors: { $eq: 'Jane Austen' } }, { publishedYear: { $gte: 1815 } }] }
 */
export function filters<View> (fields: Filterable<View>): Filters {
  const kinds = new Map(Object.entries(fields as Readonly<Record<string, Kind>>))
  const wrong = (text: string): string | undefined => {
    try {
      parse(text, kinds)
      return undefined
    } catch (error) {
      if (!(error instanceof Wrong)) throw error
      return error.message
    }
  }
  return { where: text => parse(text, kinds), validate: text => wrong(text) === undefined, message: text => wrong(text) ?? '' }
}

/** What is wrong with a filter, and where. */
class Wrong extends Error {
  constructor (at: number, what: string) { super(`at character ${at + 1}: ${what}`) }
}

interface Token { readonly kind: 'text' | 'quoted' | 'sign' | 'end', readonly text: string, readonly at: number }

// A quoted text, a sign, or a word; `rest` is what can be none of them, such as a quote that nobody closes.
const token = /\s*(?:"(?<double>(?:[^"\\]|\\.)*)"|'(?<single>(?:[^'\\]|\\.)*)'|(?<sign><=|>=|!=|[=<>:()])|(?<word>[^\s"'<>=!:()]+)|(?<rest>\S))/gsuy

function tokens (text: string): Token[] {
  const found: Token[] = []
  for (const match of text.matchAll(token)) {
    const { double, single, sign, word, rest } = match.groups!
    const quoted = double ?? single
    const at = match.index + match[0].search(/\S/u)
    if (rest !== undefined) throw new Wrong(at, rest === '!' ? 'expected != or NOT, found !' : 'the quote is not closed')
    if (quoted !== undefined) found.push({ kind: 'quoted', text: quoted.replaceAll(/\\(.)/gsu, '$1'), at })
    else found.push(sign === undefined ? { kind: 'text', text: word!, at } : { kind: 'sign', text: sign, at })
  }
  return [...found, { kind: 'end', text: '', at: text.length }]
}

function parse (text: string, kinds: ReadonlyMap<string, Kind>): Where {
  const list = tokens(text)
  let next = 0
  const take = (): Token => list[next++]!
  const takeIf = (kind: Token['kind'], wanted: string): boolean => {
    const { kind: found, text } = list[next]!
    if (found !== kind || text !== wanted) return false
    next++
    return true
  }
  const joined = (word: string, operator: string, part: (depth: number) => Where) => (depth: number): Where => {
    const parts = [part(depth)]
    while (takeIf('text', word)) parts.push(part(depth))
    return parts.length === 1 ? parts[0]! : { [operator]: parts }
  }
  const term = (depth: number): Where => {
    const { at } = list[next]!
    if (depth > depthMax) throw new Wrong(at, `more than ${depthMax} parentheses and NOTs within each other`)
    if (takeIf('text', 'NOT')) return { $nor: [term(depth + 1)] }
    if (!takeIf('sign', '(')) return restriction(take(), take, kinds)
    const inner = expression(depth + 1)
    const close = take()
    if (close.kind !== 'sign' || close.text !== ')') throw new Wrong(close.at, `expected AND, OR or ), found ${shown(close)}`)
    return inner
  }
  const expression = joined('AND', '$and', joined('OR', '$or', term))
  if (list.length === 1) return {}
  const where = expression(0)
  const end = take()
  if (end.kind !== 'end') throw new Wrong(end.at, `expected AND, OR or the end, found ${shown(end)}`)
  return where
}

function restriction (field: Token, take: () => Token, kinds: ReadonlyMap<string, Kind>): Where {
  if (field.kind !== 'text') throw new Wrong(field.at, `expected a field, found ${shown(field)}`)
  const kind = kinds.get(field.text)
  if (kind === undefined) throw new Wrong(field.at, `${shown(field)} is not a field to filter by; these are: ${[...kinds.keys()].join(', ')}`)
  const sign = take()
  if (sign.kind !== 'sign' || '()'.includes(sign.text)) throw new Wrong(sign.at, `expected one of = != < <= > >= : after ${field.text}, found ${shown(sign)}`)
  const value = take()
  if (value.kind !== 'text' && value.kind !== 'quoted') throw new Wrong(value.at, `expected a value after ${sign.text}, found ${shown(value)}`)
  const path = pathOf(field.text)
  if (sign.text === ':') {
    if (value.kind === 'text' && value.text === '*') return { [path]: { $ne: null } }
    if (kind !== 'list of texts') throw new Wrong(sign.at, `${field.text} is no list: use = instead of : (or ${field.text}:* for what has one)`)
    return { [path]: { $eq: value.text } }
  }
  if (kind === 'list of texts') throw new Wrong(sign.at, `${field.text} is a list: use : instead of ${sign.text}`)
  return { [path]: { [comparisons[sign.text]!]: kind === 'number' ? numberOf(field, value) : value.text } }
}

function numberOf (field: Token, value: Token): number {
  if (value.kind === 'quoted' || !/^-?\d{1,15}(\.\d{1,15})?$/.test(value.text)) throw new Wrong(value.at, `${field.text} takes a number, not ${shown(value)}`) // 15 digits are exact
  return Number(value.text)
}

const shownMax = 40 // characters of what was found: enough to find it again

function shown ({ kind, text }: Token): string {
  if (kind === 'end') return 'the end'
  const characters = [...text]
  const short = characters.length > shownMax ? `${characters.slice(0, shownMax).join('')}…` : text
  return kind === 'quoted' ? JSON.stringify(short) : short
}
