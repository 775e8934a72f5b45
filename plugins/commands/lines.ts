/** Reads an NDJSON body in stretches: the complete lines that have come in, so that many are decoded and committed at once. */
import type { Readable } from 'node:stream'
import pTimeout from 'p-timeout'
import { RequestTimeout } from '@bifold/cqrs'

export interface Line {
  /** From 1, as editors count; blank lines count too. */
  readonly number: number
  /** Without its newline; undefined if it is longer than a line may be. */
  readonly bytes: Buffer | undefined
}

export interface LineLimits {
  readonly lineBytesMax: number
  /** Lines of a stretch. */
  readonly stretchLinesMax: number
  /** How long a line may be on its way. */
  readonly lineMs: number
}

const newline = 0x0a

/**
 * Yields the lines of a body, and reads on only when it is asked for more.
 *
 * @throws the reason of `stop` when that is aborted, REQUEST_TIMEOUT if a line takes too long, or what broke the body off
 */
export async function * readStretches (body: Readable, { lineBytesMax, stretchLinesMax, lineMs }: LineLimits, stop: AbortSignal): AsyncGenerator<Line[]> {
  const chunks = body.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer> // destroyed, it would take the answer along
  let number = 0
  let begun: Buffer[] = [] // a line whose end has not come yet
  let begunBytes = 0
  const keep = (part: Buffer) => {
    begunBytes += part.length
    if (begunBytes > lineBytesMax) begun = []
    else begun.push(part)
  }
  const take = (): Line => {
    const bytes = begunBytes > lineBytesMax ? undefined : begun.length === 1 ? begun[0]! : Buffer.concat(begun)
    begun = []
    begunBytes = 0
    return { number: ++number, bytes }
  }
  for (let deadlineMs = performance.now() + lineMs; ;) {
    const { done, value: chunk } = await pTimeout(chunks.next(), { milliseconds: Math.max(deadlineMs - performance.now(), 1), signal: stop, fallback: () => { throw new RequestTimeout() } })
    if (done === true) break
    let lines: Line[] = []
    let start = 0
    for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, start)) {
      keep(chunk.subarray(start, end))
      lines.push(take())
      start = end + 1
      if (lines.length < stretchLinesMax) continue
      yield lines
      stop.throwIfAborted()
      lines = []
    }
    keep(chunk.subarray(start))
    if (lines.length > 0) yield lines
    if (start > 0) deadlineMs = performance.now() + lineMs
  }
  if (begunBytes > 0) yield [take()]
}
