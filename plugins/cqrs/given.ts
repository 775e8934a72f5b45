/** Tests a rule in one line, without I/O: given these events, when this command, then those events. */
import assert from 'node:assert/strict'
import type { Static, TObject } from 'typebox'
import type { AnyAggregate } from './aggregate.ts'
import type { BoundCommand } from './command.ts'
import type { DomainErrorClass } from './errors.ts'
import type { Fact } from './events.ts'
import type { FactOn, Reference, Seen } from './seen.ts'

/** The state that these events lead to. */
export function stateAfter (aggregate: AnyAggregate, facts: readonly Fact[]): unknown {
  return facts.reduce((state, { type, data }) => aggregate.evolve[type](state, data), aggregate.initial)
}

/** What is given of one aggregate. */
type Given = Seen<unknown, never>

/**
 * Runs a command's rule on the state that the given events lead to.
 *
 * @example
 * given(BookAdded(details)).when(reviseBook, { title: 'Emma' }).then(BookRevised({ title: 'Emma' }))
 * given().when(reviseBook, { title: 'Emma' }).throws(BookNotFound)
 * given().and(one(member, ann), MemberJoined({ name: 'Ann' })).when(borrowBook, { memberId: ann, bookId: emma }).then(…)
 */
export const given = (...facts: readonly Fact[]) => story(facts, [])

function story (facts: readonly Fact[], others: readonly Given[]) {
  return {
    /** What has happened to an aggregate that the command sees; one that is not told of does not exist. */
    and: ({ aggregate, id }: Reference, ...its: readonly Fact[]) =>
      story(facts, [...others, { aggregate, id, version: its.length, state: stateAfter(aggregate, its) } as Given]),
    when<Input extends TObject> (command: BoundCommand<Input>, input: Static<Input>, { now = new Date('2026-01-01T00:00:00Z') } = {}) {
      const id = '019a0000-0000-7000-8000-000000000000'
      const state = stateAfter(command.aggregate, facts) as never
      const see = ([name, { aggregate, id }]: [string, Reference]) =>
        [name, others.find(other => other.aggregate === aggregate && other.id === id) ?? { aggregate, id, version: 0, state: aggregate.initial }]
      const decide = () => {
        const seen = Object.fromEntries(Object.entries(command.sees?.(state, input as never, { id }) ?? {}).map(see))
        return command.decide(state, input as never, { id, now, seen })
      }
      return {
        /** Expects exactly these events; none, if nothing is to happen. */
        then: (...expected: readonly (Fact | FactOn)[]) => assert.deepEqual(decide(), expected),
        /** Expects to be refused with this error. */
        throws: ({ code }: DomainErrorClass<never>) => assert.throws(decide, { code })
      }
    }
  }
}
