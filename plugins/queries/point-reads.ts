/** Point reads of one read model: documents by their ids, or only their stored messages, coalesced. */
import type { Binary } from 'mongodb'
import { AnswerTooLarge, type AnyProjection } from '@bifold/cqrs'
import type { Call } from './call.ts'
import { coalesce, idsMax } from './coalesce.ts'
import { answerBytesMax, type ReadModel, type Weighed } from './read-model.ts'

export interface PointReads {
  /** The document's stored message; undefined if there is no such document. */
  message (id: string, call: Call): Promise<Uint8Array | undefined>
  /** The message of a document that shows at least this version of its aggregate; undefined if there is none, or none yet. */
  messageAt (id: string, version: number, call: Call): Promise<Uint8Array | undefined>
  /** The documents of these ids, in any order; those that do not exist are left out. */
  documents (ids: readonly string[], call: Call): Promise<{ documents: Document[], bytes: number }>
  close (): void
}

export interface Document { readonly _id: string, readonly version?: number, readonly _message?: Binary }

export function makePointReads (model: ReadModel, { message }: Pick<AnyProjection, 'message'>): PointReads {
  const coalesced = (options: object) => coalesce<Weighed<Document>>(async (ids, maxTimeMs, signal) => {
    const { documents, cut } = await model.find<Document>({ _id: { $in: ids as never } }, { ...options, signal }, maxTimeMs)
    if (cut) throw new AnswerTooLarge()
    return new Map(documents.map(one => [one.document._id, one]))
  })
  const messages = coalesced({ projection: { _message: 1 }, batchSize: idsMax }) // in one batch, and one at a time: 16 MB at most
  const fresh = coalesced({ projection: { _message: 1, version: 1 }, batchSize: idsMax })
  const wholes = coalesced({ projection: { _message: 0 } })
  const documents = async (ids: readonly string[], call: Call) => {
    const found = await wholes.read(ids, call)
    const asked = ids.flatMap(id => found.get(id) ?? [])
    const bytes = asked.reduce((all, { bytes }) => all + bytes, 0)
    if (bytes > answerBytesMax && asked.length > 1) throw new AnswerTooLarge() // one that is asked for a thousand times was fetched once
    return { documents: asked.map(({ document }) => document), bytes }
  }
  return {
    documents,
    async messageAt (id, version, call) {
      const found = (await fresh.read([id], call)).get(id)?.document
      return (found?.version ?? 0) < version ? undefined : found?._message?.buffer
    },
    async message (id, call) {
      const document = (await messages.read([id], call)).get(id)?.document
      if (document?._message !== undefined || document === undefined) return document?._message?.buffer
      // Written by somebody who knows no messages, or changed in part since: made from the document.
      const { documents: [whole] } = await documents([id], call)
      return whole === undefined ? undefined : message!(whole as never)
    },
    close () {
      for (const reads of [messages, fresh, wholes]) reads.close()
    }
  }
}
