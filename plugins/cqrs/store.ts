/** What an aggregate's store offers: many states loaded and locked, and many saved, in one transaction. */
import type { CompiledQuery, Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

/** A state and the number of events that led to it; 0 for an aggregate without any. */
export interface Versioned<State> { readonly id: string, readonly version: number, readonly state: State }

/** A value that one aggregate at most may hold, such as an ISBN. */
export interface Unique<State> {
  /** What this state holds, in the form that the index compares; undefined if nothing. */
  readonly value: (state: State) => string | undefined
  /** The error of who wants what another holds. */
  readonly taken: (value: string) => Error
  /** The id of the aggregate that holds a value, if any: for processes that have something to ask of it. */
  readonly holder?: (db: Kysely<never>, value: string) => Promise<string | undefined>
}

export interface Store<State> {
  /** Loads the aggregates of these ids, in one statement and in the order of their ids, and locks them (`for update`) if asked to; those that do not exist are left out. */
  load (tx: Kysely<never>, ids: readonly string[], options: { readonly lock: boolean }): Promise<Versioned<State>[]>
  /** The statement that inserts or updates all these states, in the order of what is unique, so that two gateways that add the same do not deadlock. It is sent together with the events and the commit. */
  save (tx: Kysely<never>, states: readonly Versioned<State>[]): CompiledQuery
  /** The aggregates that a reader may see, by rising id, from the one after `after`: for `npm run verify`. */
  page (db: Kysely<never>, after: string | undefined, limit: number): Promise<Versioned<State>[]>
  /** What no two aggregates may hold at once, by the name of the unique index that guards it. */
  readonly unique: Readonly<Record<string, Unique<State>>>
  /** What else the tables refuse, by the name of the check or foreign key: the error of the state that is against it. A rule stands before each of them; this is for what gets past it. */
  readonly constraints?: Readonly<Record<string, (refused: Versioned<State>) => Error>>
  /** The aggregate's tables, by a name that sorts after those before it. */
  readonly migrations: Readonly<Record<string, Migration>>
}
