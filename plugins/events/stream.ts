/** What both ways of reading the event log give the relay (wal.ts, poll.ts): committed events, and places in the log to confirm. */
import { hex } from '@bifold/cqrs'

/** A place in the event log as 16 hexadecimal digits, so that strings sort as the log runs: an LSN, or a position. */
export type Place = string

/** A row: column to text, null for NULL. */
export type Row = Readonly<Record<string, string | null>>

/** Events that were committed together. */
export interface Committed {
  readonly place: Place
  /** What is confirmed once they are done with: the first place behind them. */
  readonly end: Place
  readonly rows: readonly Row[]
}

export interface StreamHandlers {
  /** The next events; those of an aggregate come by rising version. */
  committed (committed: Committed, stream: EventStream): void
  /** Everything before this place was handed over already; there may be nothing of ours in it. */
  reached (place: Place, stream: EventStream): void
}

export interface EventStream {
  /** All before this place is safe elsewhere: it need not be given again. */
  confirm (place: Place): void
  pause (): void
  resume (): void
  /** Rejects when the stream breaks; resolves after `close`. */
  readonly ended: Promise<void>
  close (): Promise<void>
}

/** The first place behind a position. */
export const placeAfter = (position: number): Place => hex(position + 1, 16)
