/** Keyset paging: where a page ended, as a token, and what comes after that. */
import type { Filter, Document as MongoDocument } from 'mongodb'
import { InvalidPageToken, type Order } from '@bifold/cqrs'
import { readOpaque, writeOpaque } from './opaque.ts'

type Value = string | number | boolean | null

/**
 * What comes after a place in an ordered list: keyset paging, so that a page neither repeats nor misses what was there all along.
 * A missing field counts as null, which MongoDB orders before everything else, and which $gt and $lt never match.
 */
export function keysetFilter (order: Order, values: readonly Value[]): Filter<MongoDocument> {
  const fields = Object.entries(order)
  const [[first, direction]] = fields as [[string, 1 | -1]]
  return {
    // Says nothing more than the second condition, but tells MongoDB where to begin in the index.
    ...from(first, direction, values[0]!),
    $or: fields.map(([field, direction], index) => ({
      ...Object.fromEntries(fields.slice(0, index).map(([name], before) => [name, values[before]])),
      ...beyond(field, direction, values[index]!)
    }))
  }
}

function from (field: string, direction: 1 | -1, value: Value): Filter<MongoDocument> {
  if (value === null) return direction === 1 ? {} : { [field]: null }
  return { [field]: direction === 1 ? { $gte: value } : { $not: { $gt: value } } }
}

function beyond (field: string, direction: 1 | -1, value: Value): Filter<MongoDocument> {
  if (direction === 1) return value === null ? { [field]: { $ne: null } } : { [field]: { $gt: value } }
  return value === null ? { [field]: { $in: [] } } : { $or: [{ [field]: { $lt: value } }, { [field]: null }] }
}

export const writeToken = (list: string, order: Order, last: MongoDocument): string => writeOpaque(list, Object.keys(order).map(field => last[field] ?? null))

/** @throws InvalidPageToken */
export function readToken (token: string, list: string, order: Order): Value[] {
  const values = readOpaque(token, list)
  // Plain values only: an object would be read as an operator.
  if (values?.length !== Object.keys(order).length || values.some(value => typeof value === 'object' && value !== null)) throw new InvalidPageToken()
  return values as Value[]
}
