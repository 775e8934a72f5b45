/** Point reads of one collection: documents by their ids, or only their stored messages, coalesced. */
import type { Binary, Db } from 'mongodb'
import type { AnyProjection } from '@bifold/cqrs'
import type { Call } from './call.ts'
import { coalesce } from './coalesce.ts'

export interface PointReads {
  /** The document's stored message; undefined if there is no such document. */
  message (id: string, call: Call): Promise<Uint8Array | undefined>
  /** The documents of these ids, in any order; those that do not exist are left out. */
  documents (ids: readonly string[], call: Call): Promise<Document[]>
  close (): void
}

export interface Document { readonly _id: string, readonly _message?: Binary }

export function makePointReads (db: Db, { collection, message }: AnyProjection): PointReads {
  const stored = db.collection<Document>(collection)
  const { read, close } = coalesce<Document>(async (ids, whole, maxTimeMS) => {
    const fields = whole ? {} : { projection: { _message: 1 } }
    const found = await stored.find({ _id: { $in: ids as string[] } }, { ...fields, maxTimeMS, batchSize: ids.length, singleBatch: true }).toArray()
    return new Map(found.map(document => [document._id, document]))
  })
  const documents = async (ids: readonly string[], call: Call) => {
    const found = await read(ids, true, call)
    return ids.flatMap(id => found.get(id) ?? [])
  }
  return {
    documents,
    async message (id, call) {
      const document = (await read([id], false, call)).get(id)
      if (document?._message !== undefined || document === undefined) return document?._message?.buffer
      // Written by somebody who knows no messages, or changed in part since: made from the document.
      const [whole] = await documents([id], call)
      return whole === undefined ? undefined : message!(whole as never)
    },
    close
  }
}
