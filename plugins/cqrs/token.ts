/**
 * The consistency token: names the version of an aggregate that a read has to show. A command answers with it, and a read that
 * sends it back sees what the command did ("read your writes"; the idea is COPS' and Google Zanzibar's zookies). Signed, so that
 * what somebody made up is told from what was given.
 */
import { hash, timingSafeEqual } from 'node:crypto'
import { InvalidToken } from './errors.ts'

/** An aggregate at a version. */
export interface Place { readonly aggregate: string, readonly id: string, readonly version: number }

const signatureLength = 16 // characters of base64url: 96 bits, which nobody guesses
const tokensMax = 20 // of one read: who changed more waits for the last of each

/**
 * @param secret shared by those who write tokens and those who read them
 * @returns printable ASCII without spaces and commas
 */
export function writeToken (secret: string, { aggregate, id, version }: Place): string {
  const text = `${aggregate}/${id}/${version}`
  return `${Buffer.from(text).toString('base64url')}.${sign(secret, text)}`
}

/**
 * Reads the tokens of a header, which may have several, separated by commas.
 *
 * @throws INVALID_CONSISTENCY_TOKEN for one that was not written with this secret
 */
export function readTokens (secret: string, headers: readonly string[]): Place[] {
  const tokens = headers.flatMap(header => header.split(',')).map(token => token.trim()).filter(token => token !== '')
  if (tokens.length > tokensMax) throw new InvalidToken(`no more than ${tokensMax} at once`)
  return tokens.map(token => readToken(secret, token))
}

function readToken (secret: string, token: string): Place {
  const [body = '', signature = '', ...rest] = token.split('.')
  const text = Buffer.from(body, 'base64url').toString()
  const expected = sign(secret, text)
  const isOurs = rest.length === 0 && signature.length === expected.length && timingSafeEqual(Buffer.from(signature.slice(0, signatureLength), 'latin1'), Buffer.from(expected, 'latin1'))
  if (!isOurs) throw new InvalidToken('one is not as it was given')
  const [aggregate, id, version] = text.split('/') as [string, string, string]
  return { aggregate, id, version: Number(version) }
}

// A part of SHA-256 over secret and text: cut off, it cannot be extended, and costs a third of an HMAC, which each command would pay.
const sign = (secret: string, text: string): string => hash('sha256', `${secret}/${text}`, 'base64url').slice(0, signatureLength)
