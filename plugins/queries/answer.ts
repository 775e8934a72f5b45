/** Answers a query: checks its request, gives it readers that keep its deadline, on gRPC and HTTP alike. */
import type { Db } from 'mongodb'
import { compiler, fieldErrors, invalidInput, type Module, type Reader } from '@bifold/cqrs'
import { makeReader, type Call } from './reader.ts'

export type Answer = (request: unknown, call: Call) => Promise<unknown>

/** The answering function of each query of a module. */
export function makeAnswers (db: Db, module: Module): Record<string, Answer> {
  const compile = compiler(module.formats)
  const collections = module.projections.map(({ collection }) => collection)
  return Object.fromEntries(Object.entries(module.queries).map(([name, { input, answer }]) => {
    const fits = compile(input)
    return [name, async (request: unknown, call: Call) => {
      if (!fits(request)) throw invalidInput('request', fieldErrors(fits.errors))
      const views = Object.fromEntries(collections.map((collection): [string, Reader<never>] => [collection, makeReader<never>(db, collection, call)]))
      return await answer(request as never, views as never)
    }]
  }))
}
