/** Tells a server that is away from a statement that failed. */

// SQLSTATE classes: 08 connection, 53 out of resources, 57P shutdown; 42P01, a table is missing: the migrations have not run yet.
const sqlStates = /^(08|53|57P0[1-5]|42P01)/
const network = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EHOSTUNREACH', 'EAI_AGAIN'])
const messages = /connection terminated|timeout exceeded when trying to connect|connection ended|client has encountered a connection error/i

/** True if the error says that PostgreSQL is away, so that the same statement may succeed later. */
export function isOutage (error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(isOutage)
  if (!(error instanceof Error)) return false
  const code = (error as { code?: string }).code ?? ''
  return network.has(code) || sqlStates.test(code) || messages.test(error.message)
}
