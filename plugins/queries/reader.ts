/** Reads one collection for one call: page by page, by keyset; by ids, through the point reads. */
import { createHash } from 'node:crypto'
import type { Filter, Document as MongoDocument } from 'mongodb'
import { InvalidPageToken, type Order, type PageRequest, type Place, type Reader } from '@bifold/cqrs'
import type { Call } from './call.ts'
import type { Freshness } from './freshness.ts'
import type { PointReads } from './point-reads.ts'
import type { ReadModel } from './read-model.ts'
import type { Turns } from './turns.ts'

/** What is read of a collection, pages and documents by their ids, how each takes turns, and how it is waited for. */
export interface Source { readonly model: ReadModel, readonly points: PointReads, readonly freshness: Freshness, readonly turns: { readonly pages: Turns, readonly ids: Turns } }

type Value = string | number | boolean | null

/**
 * A reader of one collection for one call.
 *
 * @param wanted what it has to show
 */
export function makeReader<View> ({ model, points, turns, freshness }: Source, call: Call, wanted: readonly Place[] = []): Reader<View> {
  const fresh = async () => { if (wanted.length > 0) await freshness.reached(wanted, call) }
  return {
    async get (ids) {
      await fresh()
      return (await turns.ids(call, async () => await points.documents(ids, call))).documents as View[]
    },

    async page ({ where, order, size, token }) {
      const list = fingerprint(model.collection, where, order)
      const after = token === '' ? {} : keysetFilter(order, readToken(token, list, order))
      await fresh()
      const { documents, cut } = await turns.pages(call, async (maxTimeMs, signal) =>
        await model.find<MongoDocument>({ $and: [where, after] }, { projection: { _message: 0 }, sort: order, limit: size + 1, signal }, maxTimeMs))
      const items = documents.slice(0, size).map(({ document }) => document)
      return { items: items as View[], nextToken: cut || documents.length > size ? writeToken(list, order, items.at(-1)!) : '' }
    }
  }
}

/**
 * What comes after a place in an ordered list: keyset paging, so that a page neither repeats nor misses what was there all along.
 * A missing field counts as null, which MongoDB orders before everything else, and which $gt and $lt never match.
 */
export function keysetFilter (order: Order, values: readonly Value[]): Filter<MongoDocument> {
  const fields = Object.entries(order)
  return {
    $or: fields.map(([field, direction], index) => ({
      ...Object.fromEntries(fields.slice(0, index).map(([name], before) => [name, values[before]])),
      ...beyond(field, direction, values[index]!)
    }))
  }
}

function beyond (field: string, direction: 1 | -1, value: Value): Filter<MongoDocument> {
  if (direction === 1) return value === null ? { [field]: { $ne: null } } : { [field]: { $gt: value } }
  return value === null ? { [field]: { $in: [] } } : { $or: [{ [field]: { $lt: value } }, { [field]: null }] }
}

// A token belongs to one list: with another filter or order its place means nothing.
const fingerprint = (collection: string, where: PageRequest['where'], order: Order): string =>
  createHash('sha256').update(JSON.stringify([collection, where, order])).digest('base64url').slice(0, 16)

function writeToken (list: string, order: Order, last: MongoDocument): string {
  return Buffer.from(JSON.stringify([list, ...Object.keys(order).map(field => last[field] ?? null)])).toString('base64url')
}

function readToken (token: string, list: string, order: Order): Value[] {
  let read: unknown
  try {
    read = JSON.parse(Buffer.from(token, 'base64url').toString())
  } catch {
    throw new InvalidPageToken()
  }
  const [own, ...values] = Array.isArray(read) ? read : []
  // Plain values only: an object would be read as an operator.
  if (own !== list || values.length !== Object.keys(order).length || values.some(value => typeof value === 'object' && value !== null)) throw new InvalidPageToken()
  return values
}
