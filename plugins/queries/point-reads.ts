/** Point reads of one read model: documents by their ids, or only their stored messages, coalesced. */
import type { Binary } from 'mongodb'
import type { AnyProjection } from '@bifold/cqrs'
import type { Call } from './call.ts'
import { coalesce } from './coalesce.ts'
import type { ReadModel } from './read-model.ts'

export interface PointReads {
  /** The document's stored message; undefined if there is no such document. */
  message (id: string, call: Call): Promise<Uint8Array | undefined>
  /** The documents of these ids, in any order; those that do not exist are left out. */
  documents (ids: readonly string[], call: Call): Promise<Document[]>
  close (): void
}

export interface Document { readonly _id: string, readonly _message?: Binary }

export function makePointReads (model: ReadModel, { message }: Pick<AnyProjection, 'message'>): PointReads {
  const { read, close } = coalesce<Document>(async (ids, whole, maxTimeMs) => {
    const fields = whole ? {} : { projection: { _message: 1 } }
    const found = await model.find<Document>({ _id: { $in: ids as never } }, { ...fields, singleBatch: true }, maxTimeMs)
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
