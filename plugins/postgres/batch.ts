/**
 * Statements that are sent together and answered together. Up to the one Sync at their end, PostgreSQL takes them as one
 * transaction, unless they are within another, and skips those behind one that failed (PostgreSQL's documentation,
 * "Protocol Flow: Pipelining"). pg's own pipeline mode ends each with a Sync: each would be a transaction of its own.
 */
import type { CompiledQuery } from 'kysely'
import type { ClientBase, Connection, Submittable } from 'pg'
import utils from 'pg/lib/utils.js'

/** What pg calls on a query while its answer comes in. */
export class Batch implements Submittable {
  readonly #statements: readonly CompiledQuery[]
  readonly #done = Promise.withResolvers<void>()

  constructor (statements: readonly CompiledQuery[]) {
    this.#statements = statements
  }

  /** @throws the error of the statement that failed, or of the connection */
  async run (client: ClientBase): Promise<void> {
    client.query(this)
    await this.#done.promise
  }

  submit (connection: Connection) {
    connection.stream.cork() // one write to the socket, whatever their number
    for (const { sql, parameters } of this.#statements) {
      connection.parse({ name: '', text: sql, types: [] }, true)
      connection.bind({ values: [...parameters], valueMapper: utils.prepareValue } as never, true)
      connection.execute({}, true)
    }
    connection.sync()
    connection.stream.uncork()
  }

  handleError (error: Error) { this.#done.reject(error) }
  handleReadyForQuery () { this.#done.resolve() }
  handleCommandComplete () {}
  handleEmptyQuery () {}
  handleDataRow () {} // of a `returning` that nobody asked for
}
