/** One partition's way through a consumer: what was read ahead waits here, and is worked on stretch by stretch. */

/** A message as it lies on the topic. */
export interface RawMessage { readonly offset: string, readonly timestamp: string, readonly key: Buffer | null, readonly value: Buffer | null, readonly headers?: Record<string, unknown> | undefined, readonly isControlRecord?: boolean }

/** Messages at hand: how many, and the time of the oldest. */
export interface Held { readonly messages: number, readonly since: number }

export interface LaneOptions {
  /** The first message to work on. */
  readonly start: number
  readonly work: (messages: readonly RawMessage[]) => Promise<void>
  /** Told to read no more of the partition for now, and to go on. */
  readonly pause: () => void
  readonly resume: () => void
  /** Told what is at hand and not yet worked on; undefined if nothing is. */
  readonly holding: (held: Held | undefined) => void
  /** Told why the lane has ended by itself. */
  readonly failed: (error: unknown) => void
}

export interface Lane {
  /** The message that is expected next. */
  readonly next: number
  add (messages: readonly RawMessage[]): void
  /** Resolves when nothing is under way any more. */
  stop (): Promise<void>
}

const stretchMax = 500 // events in one transaction: larger ones are not faster, and six partitions hold one each
const aheadBytesMax = 512 * 1024 // that wait, some 1,000 events; beyond, they wait in Kafka until half of it is done: a partition that is resumed waits for the fetch in flight

export function makeLane ({ start, work, pause, resume, holding, failed }: LaneOptions): Lane {
  let waiting: RawMessage[] = []
  let waitingBytes = 0
  let next = start
  let [busy, paused] = [false, false]
  let inWork: readonly RawMessage[] = []
  const stopping = new AbortController()
  let running = Promise.resolve()

  const tell = () => {
    const oldest = inWork[0] ?? waiting[0]
    holding(oldest && { messages: inWork.length + waiting.length, since: Number(oldest.timestamp) })
  }

  const run = async () => {
    try {
      while (waiting.length > 0 && !stopping.signal.aborted) {
        const stretch = waiting.slice(0, stretchMax)
        waiting = waiting.slice(stretchMax)
        waitingBytes -= bytes(stretch)
        if (paused && waitingBytes < aheadBytesMax / 2) {
          paused = false
          resume()
        }
        inWork = stretch
        await work(stretch)
        inWork = []
        tell()
      }
    } catch (error) {
      stopping.abort()
      failed(error)
    } finally {
      busy = false
    }
  }

  return {
    get next () { return next },
    add (messages) {
      if (stopping.signal.aborted || messages.length === 0) return
      waiting.push(...messages)
      waitingBytes += bytes(messages)
      tell()
      next = Number(messages.at(-1)!.offset) + 1
      if (waitingBytes >= aheadBytesMax && !paused) {
        paused = true
        pause()
      }
      if (busy) return
      busy = true
      running = run()
    },
    async stop () {
      stopping.abort()
      await running
    }
  }
}

const bytes = (messages: readonly RawMessage[]): number => messages.reduce((total, { value }) => total + (value?.length ?? 0), 0)
