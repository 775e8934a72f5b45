/** Makes a body ready for validation: text trimmed and composed (NFC), depth bounded. */
import { invalidInput, NestedTooDeep, pointer } from '@bifold/cqrs'

const depthMax = 8 // no command nests deeper than 3
const entriesMax = 1000 // of a list or an object: no command has more than 100; each wrong one would be an error to find and to tell
// What Unicode calls stream-safe (UAX 15): to compose text takes the square of the marks in a row, seconds for a whole body of them.
const marksMax = 30
const marksInARow = new RegExp(`\\p{M}{${marksMax + 1}}`, 'u')

/**
 * @returns the value with every string trimmed and in Unicode's composed form, so that equal text is equal
 * @throws NESTED_TOO_DEEP; INVALID_INPUT for text that is not Unicode or cannot be composed in reasonable time, and for endless lists
 */
export function clean (value: unknown, path = '', depth = 0): unknown {
  if (typeof value === 'string') {
    // Half a surrogate pair is no character: no store takes it.
    if (!value.isWellFormed()) throw invalidInput('body', [{ path, message: 'must be well-formed Unicode' }])
    if (value.length > marksMax && marksInARow.test(value)) throw invalidInput('body', [{ path, message: `must not have more than ${marksMax} combining marks in a row` }])
    return value.trim().normalize('NFC')
  }
  if (typeof value !== 'object' || value === null) return value
  if (depth === depthMax) throw new NestedTooDeep(depthMax)
  const entries = Array.isArray(value) ? value : Object.entries(value)
  if (entries.length > entriesMax) throw invalidInput('body', [{ path, message: `must not have more than ${entriesMax} entries` }])
  if (Array.isArray(value)) return value.map((item, index) => clean(item, `${path}/${index}`, depth + 1))
  return Object.fromEntries(entries.map(([name, item]) => [name, clean(item, `${path}/${pointer(name)}`, depth + 1)]))
}
