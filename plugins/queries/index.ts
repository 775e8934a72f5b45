/** Mounts the modules' queries on gRPC and HTTP. */
import fp from 'fastify-plugin'
import { readTokens, type AnyWatch, type Module } from '@bifold/cqrs'
import { grpcOf } from '@bifold/grpc'
import { mongoApartOf, mongoOf } from '@bifold/mongo'
import { healthOf, metricsOf } from '@bifold/service'
import { makeAnswers } from './answer.ts'
import { makeBound } from './bound.ts'
import { makeFreshness } from './freshness.ts'
import { makeMoves } from './moves.ts'
import { makePointReads } from './point-reads.ts'
import { grpcFormat, serviceDefinition, streaming, unary } from './grpc.ts'
import { route } from './http.ts'
import { makeWatches, type Manner } from './live/index.ts'
import { watchMetrics } from './live/metrics.ts'
import { makeReadModel, missing } from './read-model.ts'
import type { Source } from './reader.ts'
import { sseFormat, sseRoute } from './sse.ts'
import { makeTurns } from './turns.ts'

const unsentBytesMax = 64 * 1024 * 1024 // 21 of the largest answers, or a thousand usual pages, for clients that read slowly
const unsent = { bytesMax: unsentBytesMax, connectionBytesMax: unsentBytesMax / 8 } // of one connection, two of the largest answers, or a hundred usual pages
const limits = {
  pages: { readsMax: 10, ...unsent }, // more than keep MongoDB and this core busy; the largest take 20 MB each while they are read
  ids: { readsMax: 20, ...unsent } // these share a fetch
}

/** `tokenSecret` is the gateway's: what consistency tokens are signed with. */
export interface QueriesOptions { modules: readonly Module[], tokenSecret: string }

export default fp<QueriesOptions>(async (app, { modules, tokenSecret }) => {
  const projections = modules.flatMap(({ projections }) => projections)
  const db = mongoOf(app)
  const apart = mongoApartOf(app)(3 * projections.length) // for each a fetch at a time of messages, one of those that have to show a version, and one of documents; and no list in their way
  const bounded = makeBound()
  const aggregates = modules.flatMap(({ aggregates }) => aggregates)
  const moves = makeMoves(db)
  app.addHook('onClose', async () => { await moves.close() })
  const watches = makeWatches(mongoApartOf(app)(projections.length + 10)) // a change stream for each read model, and the turns
  watchMetrics(metricsOf(app), watches)
  const ending = new AbortController()
  app.addHook('preClose', async () => { ending.abort() })
  app.addHook('onClose', async () => { await watches.close() })
  const turns = { pages: makeTurns(limits.pages), ids: makeTurns(limits.ids) }
  for (const module of modules) {
    const sources = Object.fromEntries(module.projections.map((projection): [string, Source] => [projection.collection, {
      model: makeReadModel(db, projection.collection), indexes: projection.indexes, turns, points: makePointReads(makeReadModel(apart, projection.collection), projection), freshness: makeFreshness(db, projection, aggregates, moves)
    }]))
    app.addHook('onClose', async () => { for (const { points, freshness } of Object.values(sources)) for (const one of [points, freshness]) one.close() })
    const places = (tokens: readonly string[]) => readTokens(tokenSecret, tokens)
    const answers = bounded(makeAnswers(module, sources, places))
    const watched = Object.entries(module.queries).filter((entry): entry is [string, AnyWatch] => 'watch' in entry[1])
    const watching = ([name, query]: [string, AnyWatch], manner: Pick<Manner, 'name' | 'format'>) => watches.of(module, name, query, {
      ...manner,
      reached: async (tokens, call) => { if (tokens.length > 0) await sources[query.watch.view]!.freshness.reached(places(tokens), call) }
    })
    const streams = Object.fromEntries(watched.map(entry => [entry[0], watching(entry, { name: 'grpc', format: grpcFormat })]))
    grpcOf(app).services.addService(serviceDefinition(module.service), { ...unary(answers, app.log), ...streaming(streams, app.log) })
    for (const [name, answer] of Object.entries(answers)) app.route(route(name, module, answer))
    for (const entry of watched) app.route(sseRoute(entry[0], module, entry[1], watching(entry, { name: 'sse', format: sseFormat }), ending.signal))
  }
  healthOf(app).add('read models', async () => {
    const building = await missing(db, projections.map(({ collection }) => collection))
    if (building.length > 0) throw new Error(`being built: ${building.join(', ')}`)
  })
}, { name: 'queries', dependencies: ['grpc', 'health', 'mongo', 'openapi'] })
