/** Makes a body ready for validation: text trimmed and composed (NFC), depth bounded. */
import { invalidInput, NestedTooDeep } from '@bifold/cqrs'

const depthMax = 8 // no command nests deeper than 3

/**
 * @returns the value with every string trimmed and in Unicode's composed form, so that equal text is equal
 * @throws NESTED_TOO_DEEP; INVALID_INPUT for text that is not Unicode
 */
export function clean (value: unknown, path = '', depth = 0): unknown {
  if (typeof value === 'string') {
    // Half a surrogate pair is no character: no store takes it.
    if (!value.isWellFormed()) throw invalidInput('body', [{ path, message: 'must be well-formed Unicode' }])
    return value.trim().normalize('NFC')
  }
  if (typeof value !== 'object' || value === null) return value
  if (depth === depthMax) throw new NestedTooDeep(depthMax)
  if (Array.isArray(value)) return value.map((item, index) => clean(item, `${path}/${index}`, depth + 1))
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, clean(item, `${path}/${name}`, depth + 1)]))
}
