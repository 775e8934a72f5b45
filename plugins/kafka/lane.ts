/** One partition's way through a consumer: what was read ahead waits here, and those who work on it take it stretch by stretch, each at a pace of its own. */

/** A message as it lies on the topic; `bytes` is what it takes there, headers included, where that is known. */
export interface RawMessage { readonly offset: string, readonly timestamp: string, readonly key: Buffer | null, readonly value: Buffer | null, readonly headers?: Record<string, unknown> | undefined, readonly isControlRecord?: boolean, readonly bytes?: number }

/** Messages at hand: how many, and the time of the oldest. */
export interface Held { readonly messages: number, readonly since: number }

/** One who works on the messages of a partition, in order, and waits for no other. */
export interface Track {
  /** The next message to work on; moves. */
  readonly next: number
  /** Works on consecutive messages, and has the place behind them stored; passes over what is before `next`. */
  work (messages: readonly RawMessage[]): Promise<void>
  /** Calls when it is its turn to take messages and to work on them; if it has none, it is always. */
  readonly inTurn?: ((work: () => Promise<void>) => Promise<void>) | undefined
}

export interface LaneOptions {
  /** All who work on the partition: at least one. */
  readonly tracks: readonly Track[]
  /** Told to read no more of the partition for now, and to go on. */
  readonly pause: () => void
  readonly resume: () => void
  /** Told what is at hand and not yet worked on by all; undefined if nothing is. */
  readonly holding: (held: Held | undefined) => void
  /** Told why the lane has ended by itself: the first track that failed has ended it for all. */
  readonly failed: (error: unknown) => void
}

export interface Lane {
  /** The message that is expected next. */
  readonly next: number
  /** The first message that not all have worked on. */
  readonly start: number
  add (messages: readonly RawMessage[]): void
  /** Resolves when nothing is under way any more. */
  stop (): Promise<void>
}

const stretchMax = 500 // events in one transaction: larger ones are not faster, and six partitions hold one each
const aheadBytesMax = 1536 * 1024 // that wait for the slowest, some 1,700 events; beyond, they wait in Kafka until half of it is taken: a partition that is resumed waits for the fetch in flight
const besideBytes = 200 // of a message, whatever is in it: its objects on the heap
const leadMax = 100 // messages that the slowest has not taken, from which on a track takes no more: with much to do it gathers as many as the slowest, instead of taking its time from it (docs/decisions/0025-tracks.md)

/** What the slowest track has not taken. */
interface Waiting { messages: RawMessage[], bytes: number }

/** Where a track is: how many of the waiting messages it has taken, and those that it works on. */
interface Place { readonly track: Track, taken: number, inWork: readonly RawMessage[], busy: boolean, running: Promise<void> }

export function makeLane ({ tracks, pause, resume, holding, failed }: LaneOptions): Lane {
  const places = tracks.map((track): Place => ({ track, taken: 0, inWork: [], busy: false, running: Promise.resolve() }))
  const waiting: Waiting = { messages: [], bytes: 0 }
  const start = () => Math.min(...tracks.map(({ next }) => next))
  let next = start()
  let paused = false
  const stopping = new AbortController()

  const tell = () => holding(held(places, waiting))

  const step = async (place: Place) => {
    if (stopping.signal.aborted) return
    place.inWork = take(place, places, waiting)
    runAll() // also those that were too far ahead
    if (paused && waiting.bytes < aheadBytesMax / 2) {
      paused = false
      resume()
    }
    await place.track.work(place.inWork)
    place.inWork = []
    tell()
  }

  const mayTake = ({ taken }: Place) => taken < Math.min(waiting.messages.length, leadMax) && !stopping.signal.aborted

  const run = async (place: Place) => {
    const { inTurn = async work => await work() } = place.track
    try {
      while (mayTake(place)) await inTurn(async () => await step(place))
    } catch (error) {
      const isFirst = !stopping.signal.aborted
      stopping.abort()
      if (isFirst) failed(error)
    } finally {
      place.busy = false
    }
  }

  const runAll = () => {
    for (const place of places) {
      if (place.busy || !mayTake(place)) continue
      place.busy = true
      place.running = run(place)
    }
  }

  return {
    get next () { return next },
    get start () { return start() },
    add (messages) {
      if (stopping.signal.aborted || messages.length === 0) return
      waiting.messages.push(...messages)
      waiting.bytes += bytes(messages)
      tell()
      next = Number(messages.at(-1)!.offset) + 1
      if (waiting.bytes >= aheadBytesMax && !paused) {
        paused = true
        pause()
      }
      runAll()
    },
    async stop () {
      stopping.abort()
      await Promise.all(places.map(({ running }) => running))
    }
  }
}

/** The next stretch of a place; what all have taken then waits no more. */
function take (place: Place, places: readonly Place[], waiting: Waiting): readonly RawMessage[] {
  const stretch = waiting.messages.slice(place.taken, place.taken + stretchMax)
  place.taken += stretch.length
  const all = Math.min(...places.map(({ taken }) => taken))
  if (all > 0) {
    waiting.bytes -= bytes(waiting.messages.slice(0, all))
    waiting.messages = waiting.messages.slice(all)
    for (const each of places) each.taken -= all
  }
  return stretch
}

/** What the slowest has not done. */
function held (places: readonly Place[], { messages }: Waiting): Held | undefined {
  const undone = ({ taken, inWork }: Place) => inWork.length + messages.length - taken
  const slowest = places.reduce((one, other) => undone(other) > undone(one) ? other : one)
  const oldest = slowest.inWork[0] ?? messages[slowest.taken]
  return oldest && { messages: undone(slowest), since: Number(oldest.timestamp) }
}

const bytesOf = ({ bytes, key, value }: RawMessage): number => besideBytes + (bytes ?? (key?.length ?? 0) + (value?.length ?? 0))

const bytes = (messages: readonly RawMessage[]): number => messages.reduce((total, message) => total + bytesOf(message), 0)
