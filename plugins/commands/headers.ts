/** Reads the headers of a command: If-Match, Idempotency-Key, traceparent. */
import { hash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { randomBytes } from './ids.ts'
import type { IdempotencyKey } from './request.ts'

/** A key as a header, or as a member of a line. Its length is in the pattern: minLength and maxLength would each count its characters again, at every command. */
export const Key = Type.String({ pattern: '^[\\x21-\\x7e]{1,200}$', 'x-message': 'must be 1 to 200 characters of printable ASCII without spaces', description: 'The same key again gives the same answer, and does nothing twice' })

/** The headers as the OpenAPI document shows them. */
export const Headers = Type.Object({
  'if-match': Type.Optional(Type.String({ maxLength: 200, pattern: '^\\s*(\\*|(W/)?"[^"]*"(\\s*,\\s*(W/)?"[^"]*")*)\\s*$', 'x-message': 'must be an entity tag such as "3", a list of them, or *', description: 'Only if the aggregate is at this version: the ETag of an earlier answer', examples: ['"1"'] })),
  'idempotency-key': Type.Optional(Key),
  prefer: Type.Optional(Type.String({ maxLength: 200, description: 'respond-async (RFC 7240): the command waits in a queue, and is answered with 202 at once', examples: ['respond-async'] }))
})

/** The versions that If-Match names; undefined for none or `*`. A weak tag never matches (RFC 9110, 13.1.1), nor does one that is not ours. */
export function expectedVersions (header: string | undefined): number[] | undefined {
  if (header === undefined || header.trim() === '*') return undefined
  return header.split(',').map(tag => /^"(\d+)"$/.exec(tag.trim())?.[1]).map(version => version === undefined ? NaN : Number(version))
}

export function idempotencyKey (request: FastifyRequest): IdempotencyKey | undefined {
  const value = request.headers['idempotency-key']
  return typeof value === 'string' ? keyOf(value, [request.method, request.url, request.headers['if-match'] ?? null, request.body]) : undefined
}

/** A key for what was asked with it. The body is clean: the same in any order of its fields. */
export const keyOf = (value: string, asked: readonly [method: string, url: string, match: string | null, body: unknown]): IdempotencyKey => ({
  value,
  digests: () => ({
    // A UUID, as most keys are, is its own digest; one that rises with time also finds its place in the index warm.
    digest: uuid.test(value) ? value.replaceAll('-', '').toLowerCase() : digestOf(value),
    fingerprint: digestOf(JSON.stringify(asked))
  })
})

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/i // RFC 9562 has eight versions: with another digit in its place nobody but a process gets a digest (processes.ts)

/** 128 bits of SHA-256 as hexadecimal digits; PostgreSQL takes them for a UUID, which has 16 bytes. */
export const digestOf = (text: string): string => hash('sha256', text).slice(0, 32)

/** The caller's trace with a span of our own, or a new trace (W3C Trace Context). */
export function traceparent (header: string | string[] | undefined): string {
  const trace = typeof header === 'string' ? /^00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})$/.exec(header) : null
  return `00-${trace?.[1] ?? randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-${trace?.[2] ?? '00'}`
}
