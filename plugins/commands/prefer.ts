/** Reads the header Prefer (RFC 7240): respond-async, and wait. */
import type { FastifyRequest } from 'fastify'

const waitMaxSeconds = 30 // below the 40 s after which a silent connection is closed

/** Only what is known; a preference may be passed over. */
export function preferences ({ headers }: Pick<FastifyRequest, 'headers'>): { respondAsync: boolean, waitMs: number } {
  const tokens = String(headers['prefer'] ?? '').toLowerCase().split(/[,;]/).map(token => token.trim())
  const seconds = Number(tokens.map(token => /^wait\s*=\s*"?(\d{1,6})"?$/.exec(token)?.[1]).find(found => found !== undefined) ?? 0)
  return { respondAsync: tokens.includes('respond-async'), waitMs: Math.min(seconds, waitMaxSeconds) * 1000 }
}
