/** Makes a body ready for validation: text trimmed and composed (NFC), depth bounded. */
import { NestedTooDeep } from '@bifold/cqrs'

const depthMax = 8 // no command nests deeper than 3

/**
 * @returns the value with every string trimmed and in Unicode's composed form, so that equal text is equal
 * @throws NESTED_TOO_DEEP
 */
export function clean (value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return value.trim().normalize('NFC')
  if (typeof value !== 'object' || value === null) return value
  if (depth === depthMax) throw new NestedTooDeep(depthMax)
  if (Array.isArray(value)) return value.map(item => clean(item, depth + 1))
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, clean(item, depth + 1)]))
}
