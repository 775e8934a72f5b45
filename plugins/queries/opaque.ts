/** Tokens that callers send back as they came: where a list or a stream goes on, and which it is. They say nothing that a caller may not know, and so are not signed. */
import { createHash } from 'node:crypto'

/** Tells one list or stream from another: with another filter or order its places mean nothing. */
export const fingerprint = (...what: readonly unknown[]): string => createHash('sha256').update(JSON.stringify(what)).digest('base64url').slice(0, 16)

export const writeOpaque = (of: string, values: readonly unknown[]): string => Buffer.from(JSON.stringify([of, ...values])).toString('base64url')

/** @returns what was written; undefined if it is not a token of this list or stream */
export function readOpaque (token: string, of: string): readonly unknown[] | undefined {
  try {
    const [own, ...values] = JSON.parse(Buffer.from(token, 'base64url').toString())
    return own === of ? values : undefined
  } catch {
    return undefined
  }
}
