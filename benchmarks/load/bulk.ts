/** Sends endless batches of NDJSON, each over a connection of its own, as fast as they are taken. */
import { once } from 'node:events'
import http, { type ClientRequest, type IncomingMessage } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Histogram } from 'hdr-histogram-js'
import { latenciesOf, makeHistogram } from './latencies.ts'
import type { Result } from './result.ts'

export interface BulkLoad {
  readonly url: string
  readonly path: string
  /** Sent at once, and again and again. */
  readonly lines: readonly string[]
  readonly connections: number
  readonly durationMs: number
}

export async function runBulk ({ url, path, lines, connections, durationMs }: BulkLoad): Promise<Result> {
  const block = { bytes: Buffer.from(lines.map(line => `${line}\n`).join('')), lines: lines.length }
  const latencies = makeHistogram()
  const begunMs = performance.now()
  const sums = await Promise.all(Array.from({ length: connections }, async () => {
    const request = http.request(`${url}${path}`, { method: 'POST', agent: false, headers: { 'content-type': 'application/x-ndjson' } })
    const written: number[] = [] // when each block was
    const [, counts] = await Promise.all([send(request, block.bytes, written, begunMs + durationMs), count(request, written, block.lines, latencies)])
    return counts
  }))
  const seconds = (performance.now() - begunMs) / 1000
  const total = (name: 'done' | 'failed') => sums.reduce((sum, counts) => sum + counts[name], 0)
  return { perSecond: total('done') / seconds, errors: total('failed'), latencyMs: latenciesOf(latencies) }
}

async function send (request: ClientRequest, bytes: Buffer, written: number[], endMs: number): Promise<void> {
  while (performance.now() < endMs) {
    written.push(performance.now())
    if (!request.write(bytes)) await once(request, 'drain')
  }
  request.end()
}

/** Counts the answers; the latency is that of the last line of each block. */
async function count (request: ClientRequest, written: readonly number[], blockLines: number, latencies: Histogram) {
  const [response] = await once(request, 'response') as [IncomingMessage]
  const counts = { done: 0, failed: 0 }
  let text = ''
  for await (const chunk of response.setEncoding('latin1')) {
    text += chunk
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    text = text.slice(whole.length)
    const before = counts.done + counts.failed
    const done = whole.split('"status":201,').length - 1
    counts.done += done
    counts.failed += whole.split('\n').length - 1 - done
    for (let block = Math.floor(before / blockLines); (block + 1) * blockLines <= counts.done + counts.failed; block++) latencies.recordValue(Math.max(1, Math.round((performance.now() - written[block]!) * 1000)))
  }
  return counts
}
