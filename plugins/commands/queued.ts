/** A command as it lies on the topic of commands, and the id by which its outcome is asked for. */
import type { ValidateFunction } from 'ajv'
import { CommandNotFound, CommandUnknown, fieldErrors, invalidInput, type BoundCommand, type DomainError } from '@bifold/cqrs'
import type { Request } from './request.ts'

/** A command that can wait in the queue. */
export interface Queueable { readonly command: BoundCommand, readonly validate: ValidateFunction }

/** Where a command lies, and its own id; the place tells those that wait from those that nobody knows. */
export interface Place { readonly id: string, readonly partition: number, readonly offset: number }

export const writePlace = ({ id, partition, offset }: Place): string => `${id}.${partition}.${offset}`

/** @throws COMMAND_NOT_FOUND */
export function readPlace (text: string): Place {
  const [, id, partition, offset] = /^([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})\.(\d{1,5})\.(\d{1,15})$/.exec(text) ?? []
  if (id === undefined) throw new CommandNotFound(text)
  return { id, partition: Number(partition), offset: Number(offset) }
}

const noVersion = -1 // what an entity tag that is none of ours stands for; JSON has no NaN

/** The message's value. */
export function writeCommand (name: string, queued: string, { id, input, bytes, expected, key, requestId, traceparent }: Request): string {
  return JSON.stringify({ queued, command: name, id, input, bytes, expected: expected?.map(version => Number.isNaN(version) ? noVersion : version), key: key && { value: key.value, ...key.digests() }, requestId, traceparent })
}

const uuid = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/
const isText = (value: unknown): value is string => typeof value === 'string'

/** A message of the queue: the command, or why it is refused here without being tried. */
export type Message = { readonly queued: string, readonly requestId: string, readonly aggregate: string } & ({ readonly request: Request } | { readonly error: DomainError })

/** @throws an error that says why it is no command of ours */
export function readCommand (value: Buffer | null, commands: ReadonlyMap<string, Queueable>): Message {
  if (value === null) throw new Error('it is empty')
  const message = JSON.parse(value.toString()) as Record<string, any> | null
  if (typeof message !== 'object' || message === null) throw new Error('it is no object')
  const { queued, command: name, id, input, bytes, expected, key, requestId, traceparent } = message
  if (![queued, id].every(one => isText(one) && uuid.test(one))) throw new Error('its ids are none')
  const known = isText(name) && isText(requestId) && isText(traceparent) && Number.isSafeInteger(bytes) && (expected === undefined || Array.isArray(expected)) &&
    (key === undefined || (isText(key?.value) && [key.digest, key.fingerprint].every(digest => isText(digest) && /^[0-9a-f]{32}$/.test(digest))))
  if (!known) throw new Error('it is not as it was written')
  const found = commands.get(name)
  // Written by a gateway of another version: who waits for it is told.
  if (found === undefined) return { queued, requestId, aggregate: '', error: new CommandUnknown(name.slice(0, 100)) }
  const { command, validate } = found
  const own = { queued, requestId, aggregate: command.aggregate.name }
  if (!validate(input)) return { ...own, error: invalidInput('body', fieldErrors(validate.errors)) }
  return { ...own, request: { command, id, input, bytes, expected, key: key && { value: key.value, digests: () => key }, requestId, traceparent } }
}
