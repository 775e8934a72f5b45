/** Fills the stores with books: through the group commit, or straight into the read model. */
import { Registry } from 'prom-client'
import { newId } from '@bifold/commands/ids'
import { limits, makeExecutor } from '@bifold/commands/executor'
import { modules } from '@bifold/modules'
import { sample } from './books.ts'
import { allReadModels } from './pipeline.ts'
import type { Stores } from './environment.ts'

const [books] = modules as [typeof modules[number]]
const different = sample(1000)
const batch = limits.groupSizeMax * limits.groupsMax

/** Commits new books, as the gateway would; returns their ids. */
export async function addCommitted ({ db }: Stores, count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, () => newId())
  await commitAll(db, ids, 'addBook', index => different[index % different.length]!)
  return ids
}

/** Commits a revision of each, with a price that it has not had before. */
export async function reviseCommitted ({ db }: Stores, ids: readonly string[], price: number): Promise<void> {
  await commitAll(db, ids, 'reviseBook', index => ({ price: price + index }))
}

async function commitAll (db: Stores['db'], ids: readonly string[], name: string, input: (index: number) => object) {
  const { execute } = makeExecutor(db, new Registry())
  const command = books.commands[name]!
  for (let begin = 0; begin < ids.length; begin += batch) {
    await Promise.all(ids.slice(begin, begin + batch).map(async (id, index) =>
      await execute({ command, id, input: input(begin + index), bytes: 0, expected: undefined, key: undefined, requestId: 'bench', traceparent: '' })))
  }
}

/** Writes documents as the projector would. */
export async function addProjected ({ mongo }: Stores, count: number): Promise<string[]> {
  const [{ collection, message, indexes }] = books.projections as [typeof books.projections[number]]
  for (const readModel of allReadModels) await mongo.createCollection(readModel)
  const documents = Array.from({ length: count }, (_, index) => ({ _id: newId(), version: 1, ...different[index % different.length]! }))
  await mongo.collection<{ _id: string }>(collection).createIndexes(indexes.map(key => ({ key: { ...key } })))
  for (let begin = 0; begin < count; begin += batch) {
    await mongo.collection<{ _id: string }>(collection).insertMany(documents.slice(begin, begin + batch).map(document => ({ ...document, _message: message?.(document as never) })))
  }
  return documents.map(({ _id }) => _id)
}
