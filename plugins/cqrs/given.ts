/** Tests a rule in one line, without I/O: given these events, when this command, then those events. */
import assert from 'node:assert/strict'
import type { Static, TObject } from 'typebox'
import type { AnyAggregate } from './aggregate.ts'
import type { BoundCommand } from './command.ts'
import type { DomainErrorClass } from './errors.ts'
import type { Fact } from './events.ts'

/** The state that these events lead to. */
export function stateAfter (aggregate: AnyAggregate, facts: readonly Fact[]): unknown {
  return facts.reduce((state, { type, data }) => aggregate.evolve[type](state, data), aggregate.initial)
}

/**
 * Runs a command's rule on the state that the given events lead to.
 *
 * @example
 * given(BookAdded(details)).when(reviseBook, { title: 'Emma' }).then(BookRevised({ title: 'Emma' }))
 * given().when(reviseBook, { title: 'Emma' }).throws(BookNotFound)
 */
export function given (...facts: readonly Fact[]) {
  return {
    when<Input extends TObject> (command: BoundCommand<Input>, input: Static<Input>) {
      const context = { id: '019a0000-0000-7000-8000-000000000000', now: new Date('2026-01-01T00:00:00Z') }
      const decide = () => command.decide(stateAfter(command.aggregate, facts) as never, input as never, context)
      return {
        /** Expects exactly these events; none, if nothing is to happen. */
        then: (...expected: readonly Fact[]) => assert.deepEqual(decide(), expected),
        /** Expects to be refused with this error. */
        throws: ({ code }: DomainErrorClass<never>) => assert.throws(decide, { code })
      }
    }
  }
}
