/** Answers a query: checks its request, gives it readers that keep its deadline, on gRPC and HTTP alike. */
import type { Db } from 'mongodb'
import { compiler, fieldErrors, invalidInput, type Module, type PointQuery, type Reader } from '@bifold/cqrs'
import type { Call } from './call.ts'
import type { PointReads } from './point-reads.ts'
import { makeReader } from './reader.ts'

/** Resolves with a message of the response's type, or with the bytes of one. */
export type Answer = (request: unknown, call: Call) => Promise<unknown>

/** The answering function of each query of a module. */
export function makeAnswers (db: Db, module: Module, points: ReadonlyMap<string, PointReads>): Record<string, Answer> {
  const compile = compiler(module.formats)
  const collections = module.projections.map(({ collection }) => collection)
  return Object.fromEntries(Object.entries(module.queries).map(([name, query]) => {
    const fits = compile(query.input)
    const checked = (request: unknown): never => {
      if (!fits(request)) throw invalidInput('request', fieldErrors(fits.errors))
      return request as never
    }
    if ('point' in query) return [name, pointAnswer(query.point, points.get(query.point.view)!, checked)]
    return [name, async (request: unknown, call: Call) => {
      const input = checked(request)
      const views = Object.fromEntries(collections.map((collection): [string, Reader<never>] => [collection, makeReader<never>(db, collection, points.get(collection)!, call)]))
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
