/** A command as it waits for its commit, and its answer. */
import type { CompiledQuery } from 'kysely'
import type { BoundCommand, Place } from '@bifold/cqrs'

/** Made of a key when its command is committed: a group makes those of all its keys in one go. */
export interface Digests {
  /** Of the key. */
  readonly digest: string
  /** Of what was asked, to tell a retry from another request. */
  readonly fingerprint: string
}

export interface IdempotencyKey { readonly value: string, digests (): Digests }

export interface Request {
  readonly command: BoundCommand
  /** The aggregate's id; new, if the command creates. */
  readonly id: string
  readonly input: unknown
  /** What its body had. */
  readonly bytes: number
  /** From If-Match: the versions that the caller accepts; undefined for any. */
  readonly expected: readonly number[] | undefined
  /** From Idempotency-Key. */
  readonly key: IdempotencyKey | undefined
  /** If it waited in the queue: its id there, and what is kept of an error for which it is refused. */
  readonly queued?: { readonly id: string, readonly problem: (error: unknown) => unknown }
  readonly requestId: string
  readonly traceparent: string
  /** What is written in the transaction of the command, if it is accepted or was before. */
  readonly also?: CompiledQuery
}

export interface Answer {
  readonly id: string
  readonly version: number
  /** What the command has seen, as it is after it: a read that is to show the command has to show that, too. */
  readonly seen?: readonly Place[]
  /** True if it is the answer that was given before to the same Idempotency-Key. */
  readonly replayed?: boolean
}
