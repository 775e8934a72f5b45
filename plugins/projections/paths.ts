/** Fields within fields of a document, by paths such as `a.b`, as MongoDB changes them. */

type Fields = Readonly<Record<string, unknown>>

/** A copy with the field at a path changed; fields on the way are made. */
export function changedAt (fields: Fields, path: string, change: (before: unknown) => unknown): Fields {
  const [name, rest] = split(path)
  return { ...fields, [name]: rest === undefined ? change(fields[name]) : changedAt(within(fields, name), rest, change) }
}

/** A copy without the field at a path. */
export function withoutAt (fields: Fields, path: string): Fields {
  const [name, rest] = split(path)
  if (!(name in fields)) return fields
  if (rest !== undefined) return { ...fields, [name]: withoutAt(within(fields, name), rest) }
  const { [name]: _, ...others } = fields
  return others
}

/** The path of one within the other: `b` of `a.b` within `a`; undefined if it is not. */
export const pathWithin = (outer: string, path: string): string | undefined => path.startsWith(`${outer}.`) ? path.slice(outer.length + 1) : undefined

function split (path: string): [name: string, rest: string | undefined] {
  const dot = path.indexOf('.')
  return dot === -1 ? [path, undefined] : [path.slice(0, dot), path.slice(dot + 1)]
}

function within (fields: Fields, name: string): Fields {
  const value = fields[name] ?? {}
  if (typeof value !== 'object') throw new Error(`the field ${name} has no fields in it`)
  return value as Fields
}
