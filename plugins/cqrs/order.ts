/** Orders of lists, after AIP-132: those that an index backs, and no others. */
import { pathOf, protoName, type ProtoName } from './names.ts'
import type { Format } from './module.ts'
import type { Index } from './projection.ts'
import type { Order } from './query.ts'

type Scalar<View> = { [Field in keyof View & string]: NonNullable<View[Field]> extends string | number ? Field : never }[keyof View & string]

/** A format for the schema of the field `order_by`, and what an order of that format means. */
export interface Orders extends Format {
  /** Those that there are, as callers write them. */
  readonly offered: readonly string[]
  /** @throws Error for a text that is not of the format */
  order (text: string): Order
}

/**
 * The orders that a list has: for each index of these fields only, by name in the .proto file, and by the id. An index ends with
 * `_id`, and is walked either way.
 *
 * @param id what callers call the id, if they do not call it so
 * @throws Error for a name that no index begins with: a list would be sorted in memory
 * @example
 * const order = orders<BookView>(['id', 'title'], catalogue.indexes) // id, id desc, title, title desc
 * order.order('title desc') // { title: -1, _id: -1 }
 */
export function orders<View> (names: readonly ProtoName<Scalar<View>>[], indexes: readonly Index[], id = 'id'): Orders {
  const paths = names.map(pathOf)
  const backed = [{ _id: 1 } as Index, ...indexes].filter(index => Object.keys(index).at(-1) === '_id' && Object.keys(index).every(path => path === '_id' || paths.includes(path)))
  for (const [at, path] of paths.entries()) if (!backed.some(index => Object.keys(index)[0] === path)) throw new Error(`no index backs the order by ${names[at]}`)
  const offered = new Map(backed.toSorted((a, b) => place(paths, a) - place(paths, b)).flatMap(index => ([1, -1] as const).map(way => {
    const order = Object.fromEntries(Object.entries(index).map(([path, direction]) => [path, direction * way])) as Order
    return [written(order, id), order] as const
  })))
  const find = (text: string) => offered.get(canonical(text, id))
  const list = [...offered.keys()]
  return {
    offered: list,
    order (text) {
      const order = find(text)
      if (order === undefined) throw new Error(`no order: ${text}`)
      return order
    },
    validate: text => find(text) !== undefined,
    message: `must be one of ${list.map(order => order.includes(',') ? JSON.stringify(order) : order).join(', ')}`
  }
}

const place = (paths: readonly string[], index: Index) => paths.indexOf(Object.keys(index)[0]!)

/** An order as callers write it: the id at its end goes without saying. */
const written = (order: Order, id: string) => Object.entries(order).filter(([path], at) => path !== '_id' || at === 0)
  .map(([path, direction]) => `${path === '_id' ? id : protoName(path)}${direction === 1 ? '' : ' desc'}`).join(', ')

/** The one way to write it: none is by the id; spaces do not count; the id, in the direction of the field before it, is left out at the end. */
function canonical (text: string, id: string): string {
  if (text.trim() === '') return id
  const parts = text.split(',').map(part => part.trim().replaceAll(/\s+/g, ' '))
  const [last, before] = [parts.at(-1), parts.at(-2)]
  if (before !== undefined && last === (before.endsWith(' desc') ? `${id} desc` : id)) parts.pop()
  return parts.join(', ')
}
