/** Answers a query: checks its request, gives it readers that keep its deadline, on gRPC and HTTP alike. */
import { compiler, fieldErrors, invalidInput, type Module, type PointQuery, type Reader } from '@bifold/cqrs'
import type { Call } from './call.ts'
import type { PointReads } from './point-reads.ts'
import { makeReader, type Source } from './reader.ts'

/** Resolves with a message of the response's type, or with the bytes of one. */
export type Answer = (request: unknown, call: Call) => Promise<unknown>

/** The answering function of each query of a module, from the collections of its projections. */
export function makeAnswers (module: Module, sources: Readonly<Record<string, Source>>): Record<string, Answer> {
  const compile = compiler(module.formats)
  return Object.fromEntries(Object.entries(module.queries).map(([name, query]) => {
    const fits = compile(query.input)
    const checked = (request: unknown): never => {
      if (!fits(request)) throw invalidInput('request', fieldErrors(fits.errors))
      return request as never
    }
    if ('point' in query) return [name, pointAnswer(query.point, sources[query.point.view]!.points, checked)]
    return [name, async (request: unknown, call: Call) => {
      const input = checked(request)
      const views = Object.fromEntries(Object.entries(sources).map(([collection, source]): [string, Reader<never>] => [collection, makeReader<never>(source, call)]))
      return await query.answer(input, views as never)
    }]
  }))
}

function pointAnswer ({ id, missing }: PointQuery<never, never>['point'], points: PointReads, checked: (request: unknown) => never): Answer {
  return async (request, call) => {
    const input = checked(request)
    const message = await points.message(id(input), call)
    if (message === undefined) throw missing(input)
    return message
  }
}
