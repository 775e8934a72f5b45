/** The consistency token of a command's answer: a read with it shows what the command has changed, and what it saw. */
import { writeToken, type BoundCommand } from '@bifold/cqrs'
import type { Answer } from './request.ts'

/** @returns several tokens, separated by commas, if the command sees other aggregates */
export const tokenOf = (secret: string, { aggregate: { name } }: BoundCommand, { id, version, seen = [] }: Answer): string =>
  [{ aggregate: name, id, version }, ...seen].map(place => writeToken(secret, place)).join()
