/** Answers a query: checks its request, gives it readers that keep its deadline and show what its tokens name, on gRPC and HTTP alike. */
import { compiler, fieldErrors, invalidInput, type Module, type Place, type PointQuery, type Reader } from '@bifold/cqrs'
import type { Call } from './call.ts'
import { makeReader, type Source } from './reader.ts'

/** Resolves with a message of the response's type, or with the bytes of one. */
export type Answer = (request: unknown, call: Call) => Promise<unknown>

/**
 * The answering function of each query of a module, from the collections of its projections.
 *
 * @param places reads tokens
 */
export function makeAnswers (module: Module, sources: Readonly<Record<string, Source>>, places: (tokens: readonly string[]) => Place[]): Record<string, Answer> {
  const compile = compiler(module.formats)
  return Object.fromEntries(Object.entries(module.queries).flatMap(([name, query]) => {
    if ('watch' in query) return [] // live/ has those
    const fits = compile(query.input)
    const checked = (request: unknown): never => {
      if (!fits(request)) throw invalidInput('request', fieldErrors(fits.errors))
      return request as never
    }
    if ('point' in query) return [[name, pointAnswer(query.point, sources[query.point.view]!, checked, places)]]
    return [[name, async (request: unknown, call: Call) => {
      const input = checked(request)
      const wanted = call.tokens.length === 0 ? [] : places(call.tokens)
      const views = Object.fromEntries(Object.entries(sources).map(([collection, source]): [string, Reader<never>] => [collection, makeReader<never>(source, call, wanted)]))
      return await query.answer(input, views as never)
    }]]
  }))
}

function pointAnswer ({ id, missing }: PointQuery<never, never>['point'], { points, freshness }: Source, checked: (request: unknown) => never, places: (tokens: readonly string[]) => Place[]): Answer {
  return async (request, call) => {
    const input = checked(request)
    if (call.tokens.length > 0) {
      const wanted = freshness.shown(places(call.tokens))
      // Who reads what it has just written: as a rule the document is there already, and tells its version itself.
      const message = wanted.length === 1 && wanted[0]!.id === id(input) ? await points.messageAt(id(input), wanted[0]!.version, call) : undefined
      if (message !== undefined) return message
      await freshness.reached(wanted, call)
    }
    const message = await points.message(id(input), call)
    if (message === undefined) throw missing(input)
    return message
  }
}
