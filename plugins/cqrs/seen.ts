/** What a command sees beside its own aggregate, and how it records events there. */
import type { Aggregate } from './aggregate.ts'
import type { EventTypes, Fact, FactOf } from './events.ts'
import type { Versioned } from './store.ts'

/** One aggregate that a command sees. `any` by default: a reference of any aggregate. */
export interface Reference<State = any, Events extends EventTypes = any> {
  readonly aggregate: Aggregate<State, Events, any>
  /** Empty for nobody: nothing is loaded, and the state is the initial one. */
  readonly id: string
}

/** References by the names under which the rule sees them. */
export type References = Readonly<Record<string, Reference>>

/** A seen aggregate as it is now; version 0 and the initial state, if it does not exist. */
export interface Seen<State, Events extends EventTypes> extends Reference<State, Events>, Versioned<State> {}

/** What a rule gets for what its command sees. */
export type SeenOf<Names extends References> = { readonly [Name in keyof Names]: Names[Name] extends Reference<infer State, infer Events> ? Seen<State, Events> : never }

/** A fact about another aggregate than the command's own. */
export interface FactOn extends Fact { readonly on: Reference }

/**
 * An aggregate as other modules get it: they may see it, and record nothing on it.
 *
 * @example
 * // modules/books/index.ts
 * export const bookOfOthers: Visible<Book> = book
 */
export type Visible<State> = Aggregate<State, Record<never, never>, object>

/**
 * Refers to the aggregate with this id; to nobody, if there is none.
 *
 * @example
 * sees: (state, { memberId }) => ({ member: one(member, memberId) })
 */
export const one = <State, Events extends EventTypes>(aggregate: Aggregate<State, Events, any>, id = ''): Reference<State, Events> =>
  ({ aggregate, id: id.toLowerCase() })

/**
 * Says that a fact is about a seen aggregate.
 *
 * @example
 * decide: (state, { memberId }, { id, seen }) => [LoanOpened({ memberId }), on(seen.member, MemberBorrowed({ loanId: id }))]
 */
export const on = <State, Events extends EventTypes>({ aggregate, id }: Reference<State, Events>, fact: FactOf<NoInfer<Events>>): FactOn =>
  ({ ...fact, on: { aggregate, id } })
