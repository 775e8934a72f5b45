/** Compares the write side with a read model, record by record, in bounded memory. */
import { isDeepStrictEqual } from 'node:util'
import type { AnyAggregate, Module } from '@bifold/cqrs'
import type { Db } from '@bifold/postgres'

/** A record as both sides hold it: `_id`, `version`, and the fields. */
export type Row = Readonly<Record<string, unknown>>

export interface FieldDifference { readonly field: string, readonly postgres: unknown, readonly mongo: unknown }

export interface Difference {
  readonly id: unknown
  readonly kind: 'missing' | 'extra' | 'differing'
  /** Of a differing record. */
  readonly fields: readonly FieldDifference[]
}

export interface Comparison {
  readonly name: string
  postgres: number
  mongo: number
  equal: number
  /** In PostgreSQL, but not in MongoDB. */
  missing: number
  /** In MongoDB, but not in PostgreSQL. */
  extra: number
  differing: number
  /** The first of them. */
  readonly differences: Difference[]
}

/** The part of MongoDB's `Db` that is read. */
export interface ReadSide {
  collection (name: string): { find (filter: object, options: { sort: { _id: 1 }, batchSize: number }): AsyncIterable<Row> }
}

const differencesMax = 10 // what one reads before looking for the cause
const pageSize = 1000 // a second's work for neither server; 1,000 books of 1 KB are 1 MB

/** The aggregates that have a read model of their own name: the only ones where record and document are the same. */
export function comparable (modules: readonly Module[]): AnyAggregate[] {
  return modules.flatMap(({ aggregates, projections }) => aggregates.filter(({ name }) => projections.some(({ collection }) => collection === name)))
}

/** Compares an aggregate with the read model of its name. Only what is at rest compares equal: commands under way show as differences. */
export const compare = async (db: Db, mongo: ReadSide, aggregate: AnyAggregate): Promise<Comparison> => await compareRows(records(db, aggregate), mongo, aggregate.name)

/** Compares any rows, by rising id, with the documents of a read model, as they are shown; reads both sides once, side by side. */
export async function compareRows (writeSide: AsyncGenerator<Row, void, void>, mongo: ReadSide, name: string, shown = (document: Row): Row => document): Promise<Comparison> {
  const comparison: Comparison = { name, postgres: 0, mongo: 0, equal: 0, missing: 0, extra: 0, differing: 0, differences: [] }
  const readSide = mongo.collection(name).find({}, { sort: { _id: 1 }, batchSize: pageSize })[Symbol.asyncIterator]()
  try {
    await merge(writeSide, readSide, comparison, shown)
  } finally {
    await Promise.allSettled([writeSide.return(undefined), readSide.return?.()])
  }
  return comparison
}

async function merge (writeSide: AsyncIterator<Row, void>, readSide: AsyncIterator<Row, void>, comparison: Comparison, shown: (document: Row) => Row): Promise<void> {
  let [record, document] = await Promise.all([writeSide.next(), readSide.next()])
  while (!record.done || !document.done) {
    const order = record.done ? 1 : document.done ? -1 : compareIds(record.value['_id'], document.value['_id'])
    tally(comparison, order <= 0 ? record.value as Row : undefined, order >= 0 ? shown(document.value as Row) : undefined)
    ;[record, document] = await Promise.all([order <= 0 ? writeSide.next() : record, order >= 0 ? readSide.next() : document])
  }
}

// The ids of records are lower-case UUIDs, which PostgreSQL, MongoDB and JavaScript sort alike.
// A document whose id is not even a string is none of ours: extra, wherever MongoDB sorts it.
function compareIds (record: unknown, document: unknown): number {
  if (typeof document !== 'string') return 1
  return record === document ? 0 : record as string < document ? -1 : 1
}

async function * records (db: Db, { store, record }: AnyAggregate): AsyncGenerator<Row, void, void> {
  let after: string | undefined
  while (true) {
    const page = await store.page(db as never, after, pageSize)
    for (const { id, version, state } of page) yield { _id: id, version, ...record(state) }
    if (page.length < pageSize) return
    after = page.at(-1)!.id
  }
}

function tally (comparison: Comparison, record: Row | undefined, document: Row | undefined): void {
  if (record !== undefined) comparison.postgres++
  if (document !== undefined) comparison.mongo++
  const difference = differenceOf(record, document)
  comparison[difference?.kind ?? 'equal']++
  if (difference !== undefined && comparison.differences.length < differencesMax) comparison.differences.push(difference)
}

function differenceOf (record: Row | undefined, document: Row | undefined): Difference | undefined {
  if (document === undefined) return { kind: 'missing', id: record?.['_id'], fields: [] }
  if (record === undefined) return { kind: 'extra', id: document['_id'], fields: [] }
  // A field that begins with an underscore is the projector's own, beside the record.
  const names = new Set([...Object.keys(record), ...Object.keys(document).filter(name => !name.startsWith('_'))])
  const fields = [...names].filter(name => !isDeepStrictEqual(record[name], document[name]))
    .map(field => ({ field, postgres: record[field], mongo: document[field] }))
  return fields.length === 0 ? undefined : { kind: 'differing', id: record['_id'], fields }
}
