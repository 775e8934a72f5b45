/** What may not be in what became of commands in the queue, whatever crashed. */
import type { Accepted } from './load.ts'

/** A command of the queue that succeeded, as PostgreSQL has it. */
export interface Succeeded { readonly id: string, readonly aggregateId: string, readonly version: number }

/**
 * Commands that were done before one on the same aggregate whose acceptance had been answered when they were first sent.
 *
 * By their places in the topic one could not tell: the place that was answered is that of the last attempt, and an earlier one, of
 * which nobody heard, may have been done before what others sent between the two.
 */
export function doneTooSoon (accepted: readonly Accepted[], succeeded: readonly Succeeded[]): string[] {
  const outcomes = new Map(succeeded.map(one => [one.id, one]))
  const done = accepted.flatMap(({ id, after }, index) => {
    const outcome = outcomes.get(id.split('.')[0]!)
    return outcome === undefined ? [] : [{ ...outcome, id, after, index }]
  })
  return [...Map.groupBy(done, ({ aggregateId }) => aggregateId).values()].flatMap(ofOne => ofOne.flatMap(({ id, aggregateId, version, after }) => {
    const passed = ofOne.find(earlier => earlier.index < after && earlier.version > version)
    return passed === undefined ? [] : [`${id} made version ${version} of ${aggregateId}, and ${passed.id}, which had been accepted before it was sent, version ${passed.version}`]
  }))
}
