/**
 * Statements that are sent together and answered together. Up to the one Sync at their end, PostgreSQL takes them as one
 * transaction, unless they are within another, and skips those behind one that failed (PostgreSQL's documentation,
 * "Protocol Flow: Pipelining"). pg's own pipeline mode ends each with a Sync: each would be a transaction of its own.
 *
 * Each text is parsed and planned once for a connection, a quarter of a millisecond for a write, and then only named.
 */
import type { CompiledQuery } from 'kysely'
import type { ClientBase, Connection, Submittable } from 'pg'
import utils from 'pg/lib/utils.js'

// PostgreSQL keeps each until its connection ends. The writes of a group have a few texts, whatever they write.
const unnamed = '' // replaced by the next one
const preparedMax = 100
const names = new Map<string, string>()

/** @returns the name under which each connection prepares a text; none once there are too many */
function nameOf (text: string): string {
  if (!names.has(text)) {
    if (names.size === preparedMax) return unnamed
    names.set(text, `bifold_${names.size}`)
  }
  return names.get(text)!
}

/** What a connection has prepared; that lasts, even if the transaction in which it was done does not. */
const prepared = new WeakMap<Connection, Set<string>>()

function preparedBy (connection: Connection): Set<string> {
  if (!prepared.has(connection)) prepared.set(connection, new Set())
  return prepared.get(connection)!
}

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
    const known = preparedBy(connection)
    const parsing: string[] = []
    const parsed = () => known.add(parsing.shift()!) // those before one that failed are prepared, those behind it are not
    connection.on('parseComplete', parsed)
    connection.once('readyForQuery', () => connection.off('parseComplete', parsed))
    connection.stream.cork() // one write to the socket, whatever their number
    for (const { sql, parameters } of this.#statements) {
      const name = nameOf(sql)
      if (name === unnamed || !(known.has(name) || parsing.includes(name))) {
        parsing.push(name)
        connection.parse({ name, text: sql, types: [] }, true)
      }
      connection.bind({ statement: name, values: [...parameters], valueMapper: utils.prepareValue } as never, true)
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
