/** Which index a list is walked along, so that nothing is sorted in memory: MongoDB might rather look for few and sort those. */
import { MongoServerError } from 'mongodb'
import type { Index, Order, Where } from '@bifold/cqrs'

/**
 * The index of an order: behind a field that the filter wants equal to one value, if there is such an index, since that one leads to
 * nothing else; or by itself, where the filter is tried on each document on the way.
 *
 * @returns undefined if there is none
 */
export function hintFor (indexes: readonly Index[], where: Where, order: Order): Index | undefined {
  const wanted = Object.keys(order)
  const all: readonly Index[] = [...indexes, { _id: 1 }]
  const fits = (index: Index, before: readonly string[]) => {
    const fields = Object.keys(index)
    if (fields.join() !== [...before, ...wanted].join()) return false
    return new Set(wanted.map(field => index[field] === order[field])).size === 1 // forward or backward
  }
  const equal = [...equalities(where)]
  return all.find(index => equal.some(field => fits(index, [field]))) ?? all.find(index => fits(index, []))
}

/** The fields that every document which passes has with one value. */
function * equalities (where: Where): Generator<string> {
  for (const [field, condition] of Object.entries(where)) {
    if (field === '$and') for (const part of condition as Where[]) yield * equalities(part)
    else if (!field.startsWith('$') && isEquality(condition)) yield field
  }
}

const isEquality = (condition: unknown): boolean => ['string', 'number', 'boolean'].includes(typeof condition) ||
  (typeof condition === 'object' && condition !== null && Object.keys(condition).join() === '$eq')

const badValue = 2

/** True if MongoDB refused a read since the index that it was to take is not there. */
export const isNoIndex = (error: unknown): boolean => error instanceof MongoServerError && error.code === badValue && error.message.includes('hint')
