/** Reads one collection for one call: page by page, by keyset; by ids, through the point reads. */
import type { Document as MongoDocument } from 'mongodb'
import type { Index, Order, PageRequest, Place, RankedRequest, Reader } from '@bifold/cqrs'
import { hintFor, isNoIndex } from './backing.ts'
import type { Call } from './call.ts'
import type { Freshness } from './freshness.ts'
import { keysetFilter, readToken, writeToken } from './keyset.ts'
import { fingerprint } from './opaque.ts'
import type { PointReads } from './point-reads.ts'
import type { ReadModel } from './read-model.ts'
import type { Turns } from './turns.ts'

/** What is read of a collection, pages and documents by their ids, its indexes, how each takes turns, and how it is waited for. */
export interface Source { readonly model: ReadModel, readonly indexes: readonly Index[], readonly points: PointReads, readonly freshness: Freshness, readonly turns: { readonly pages: Turns, readonly ids: Turns } }

const byScore: Order = { score: -1, _id: 1 }
const rankedMax = 20_000 // documents of a search that are looked at: 100 ms of MongoDB's; who asks for what more have had better ask for more

/**
 * A reader of one collection for one call.
 *
 * @param wanted what it has to show
 */
export function makeReader<View> ({ model, indexes, points, turns, freshness }: Source, call: Call, wanted: readonly Place[] = []): Reader<View> {
  const fresh = async () => { if (wanted.length > 0) await freshness.reached(wanted, call) }
  return {
    async get (ids) {
      await fresh()
      return (await turns.ids(call, async () => await points.documents(ids, call))).documents as View[]
    },

    async page ({ where, order, size, token, fields }: PageRequest) {
      const list = fingerprint(model.collection, where, order)
      const after = token === '' ? {} : keysetFilter(order, readToken(token, list, order))
      await fresh()
      const hint = hintFor(indexes, where, order)
      const projection = fields === undefined ? { _message: 0 } : Object.fromEntries(['_id', ...fields, ...Object.keys(order)].map(field => [field, 1]))
      const { documents, cut } = await turns.pages(call, async (maxTimeMs, signal) => {
        const read = async (options: object) => await model.find<MongoDocument>({ $and: [where, after] }, { projection, sort: order, limit: size + 1, signal, ...options }, maxTimeMs)
        if (hint === undefined) return await read({})
        // An index that is not there makes a list slow, not wrong.
        return await read({ hint }).catch(async (error: unknown) => isNoIndex(error) ? await read({}) : await Promise.reject(error))
      })
      const items = documents.slice(0, size).map(({ document }) => document)
      return { items: items as View[], nextToken: cut || documents.length > size ? writeToken(list, order, items.at(-1)!) : '' }
    },

    async ranked ({ where, score, size, token }: RankedRequest) {
      const list = fingerprint(model.collection, where, byScore)
      const after = token === '' ? [] : [{ $match: keysetFilter(byScore, readToken(token, list, byScore)) }]
      await fresh()
      const pipeline = [{ $match: where }, { $limit: rankedMax }, { $project: { score } }, ...after, { $sort: byScore }, { $limit: size + 1 }]
      const { documents } = await turns.pages(call, async (maxTimeMs, signal) => await model.aggregate<MongoDocument & { _id: string }>(pipeline, { signal }, maxTimeMs))
      const ranked = documents.slice(0, size).map(({ document }) => document)
      return { ids: ranked.map(({ _id }) => _id), nextToken: documents.length > size ? writeToken(list, byScore, ranked.at(-1)!) : '' }
    }
  }
}
