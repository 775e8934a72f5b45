/** Makes a body ready for validation: text trimmed and composed (NFC), fields in one order, depth bounded. */
import { invalidInput, NestedTooDeep, pointer } from '@bifold/cqrs'

const depthMax = 8 // no command nests deeper than 3
const entriesMax = 1000 // of a list or an object: no command has more than 100; each wrong one would be an error to find and to tell
// What Unicode calls stream-safe (UAX 15): to compose text takes the square of the marks in a row, seconds for a whole body of them.
const marksMax = 30
const marksInARow = new RegExp(`\\p{M}{${marksMax + 1}}`, 'u')

/** Where in the body a value is. Written as a path only for an error: to write it for each value was a hundredth of a command's cost. */
interface Place { readonly within: Place | undefined, readonly name: string }

const pathOf = (place: Place | undefined): string => place === undefined ? '' : `${pathOf(place.within)}/${pointer(place.name)}`

/**
 * @returns the value with every string trimmed and in Unicode's composed form, so that equal text is equal, and with the fields of
 *   objects in the order of their names, which means nothing in JSON, so that equal bodies are equal as text
 * @throws NESTED_TOO_DEEP; INVALID_INPUT for text that is not Unicode or cannot be composed in reasonable time, and for endless lists
 */
export function clean (value: unknown, place?: Place, depth = 0): unknown {
  const wrong = (message: string) => invalidInput('body', [{ path: pathOf(place), message }])
  if (typeof value === 'string') {
    // Half a surrogate pair is no character: no store takes it.
    if (!value.isWellFormed()) throw wrong('must be well-formed Unicode')
    if (value.length > marksMax && marksInARow.test(value)) throw wrong(`must not have more than ${marksMax} combining marks in a row`)
    return value.trim().normalize('NFC')
  }
  if (typeof value !== 'object' || value === null) return value
  if (depth === depthMax) throw new NestedTooDeep(depthMax)
  const bounded = <T>(entries: T[]): T[] => {
    if (entries.length > entriesMax) throw wrong(`must not have more than ${entriesMax} entries`)
    return entries
  }
  if (Array.isArray(value)) return bounded(value).map((item, index) => clean(item, { within: place, name: String(index) }, depth + 1))
  const cleaned: Record<string, unknown> = {} // none is called __proto__: that is refused where JSON is parsed
  for (const name of bounded(Object.keys(value)).sort()) cleaned[name] = clean(value[name as keyof typeof value], { within: place, name }, depth + 1)
  return cleaned
}
