/** All who watch the same and have got as far: what is new is put into a message once, and sent to each. */
import type { News } from '@bifold/cqrs'
import type { Document } from 'mongodb'
import type { Step } from './changes.ts'
import { makePending, type Before, type Matches, type Pending } from './pending.ts'
import { writeToken, type Mark } from './token.ts'

export interface Member {
  send (message: Uint8Array): void
}

/** What is watched, and how it is told. */
export interface Subject {
  readonly fingerprint: string
  /** Those of one group are told the same bytes. */
  readonly group: string
  readonly where: Readonly<Record<string, unknown>>
  readonly matches: Matches
  readonly encode: (news: News<Document>) => Uint8Array
}

const changesMax = 1000 // in a message, some 300 KB
const bytesMax = 256 * 1024 // of the documents in it, before the last

/** More is not put into one message: it is to be told with the mark of where it stands. */
export const isFull = ({ size, bytes }: Pending): boolean => size >= changesMax || bytes >= bytesMax

/** What is pending, as a message; nothing is pending any more. */
export const messageOf = ({ encode, fingerprint }: Subject, pending: Pending, mark: Mark): Uint8Array =>
  encode({ begins: false, ...pending.take(), resumeToken: writeToken(fingerprint, mark) })

export function makeGroup (subject: Subject) {
  const pending = makePending(subject.matches)
  const members = new Set<Member>()
  let told = performance.now()
  const tell = (mark: Mark) => {
    told = performance.now()
    const message = messageOf(subject, pending, mark)
    for (const member of members) member.send(message)
  }
  return {
    members,
    add (step: Step, before: Before) {
      pending.add(step, before)
      if (isFull(pending)) tell({ after: step.token })
    },
    /** Tells what is new up to the mark; that there is nothing, if nothing was told for so long. */
    flush (mark: Mark, silenceMs: number) {
      if (pending.size > 0 || performance.now() - told >= silenceMs) tell(mark)
    }
  }
}

export type Group = ReturnType<typeof makeGroup>
