/** Read masks, after AIP-157: which fields of a message a caller wants. */
import { camelCase, pathOf } from './names.ts'
import type { Format } from './module.ts'

/** A format for the schema of each path of a `read_mask`, and what a mask of such paths means. */
export interface Masks<Message> extends Format {
  /** `fields` are those of the document that the mask needs, undefined for all; `apply` leaves the others out of a message. */
  of (paths: readonly string[] | undefined): { readonly fields: readonly string[] | undefined, readonly apply: (message: Message) => Message }
}

/**
 * The masks of a message, of its own fields; `*` or no path stands for all of them.
 *
 * @example
 * const mask = masks(booksV1.Book)
 * mask.of(['title', 'published_year']) // { fields: ['title', 'publishedYear'], apply }
 */
export function masks<Message extends object> (type: { create (): Message }): Masks<Message> {
  const names = Object.keys(type.create())
  const known = (path: string) => path === '*' || names.includes(camelCase(path))
  return {
    of (paths = []) {
      if (paths.length === 0 || paths.includes('*')) return { fields: undefined, apply: message => message }
      const wanted = new Set(paths.map(camelCase))
      return {
        fields: [...wanted].map(pathOf),
        apply: message => Object.assign(type.create(), Object.fromEntries(Object.entries(message).filter(([name]) => wanted.has(name))))
      }
    },
    validate: known,
    message: path => `${JSON.stringify(path.slice(0, 40))} is not a field of the answer; these are: ${names.join(', ')}` // 40: enough to find it again
  }
}
