/** Makes a command of a line: the checks of a single command, and the line's own Idempotency-Key. */
import { isUtf8 } from 'node:buffer'
import type { ValidateFunction } from 'ajv'
import { parse } from 'secure-json-parse'
import { BodyTooLarge, fieldErrors, InvalidJson, invalidInput } from '@bifold/cqrs'
import { clean } from './clean.ts'
import type { Line } from './lines.ts'

/** The member of a line that is its Idempotency-Key, and no part of the command's input. */
export const keyMember = 'idempotencyKey'

export interface LineInput { readonly input: unknown, readonly key: string | undefined }

/**
 * @returns the command's input, or undefined for a blank line
 * @throws a domain error that says what is wrong with the line
 */
export function readLine ({ bytes }: Line, validate: ValidateFunction, validateKey: ValidateFunction): LineInput | undefined {
  if (bytes === undefined) throw new BodyTooLarge()
  if (!isUtf8(bytes)) throw new InvalidJson('it is not UTF-8')
  const text = bytes.toString().trim()
  if (text === '') return undefined
  const { key, input } = taken(clean(parsed(text)))
  if (key !== undefined && !validateKey(key)) throw invalidInput('line', fieldErrors(validateKey.errors).map(({ message }) => ({ path: `/${keyMember}`, message })))
  if (!validate(input)) throw invalidInput('body', fieldErrors(validate.errors))
  return { input, key: key as string | undefined }
}

function parsed (text: string): unknown {
  try {
    return parse(text, null, { protoAction: 'error', constructorAction: 'error' })
  } catch (error) {
    throw new InvalidJson((error as Error).message)
  }
}

function taken (value: unknown): { key?: unknown, input: unknown } {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, keyMember)) return { input: value }
  const { [keyMember]: key, ...input } = value as Record<string, unknown>
  return { key, input }
}
