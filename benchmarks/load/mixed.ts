/** Reads and writes in a given share, as fast as they are answered: a fixed number of callers, each of which waits for its answer. */
import { performance } from 'node:perf_hooks'
import { Pool } from 'undici'
import { latenciesOf, makeHistogram } from './latencies.ts'
import type { Result } from './result.ts'

export interface MixedLoad {
  /** Where books are added, and where they are read: one app's or two apps'. */
  readonly writeUrl: string
  readonly readUrl: string
  readonly readShare: number
  readonly ids: readonly string[]
  readonly bodies: readonly string[]
  readonly callers: number
  readonly durationMs: number
}

export async function runMixed ({ writeUrl, readUrl, readShare, ids, bodies, callers, durationMs }: MixedLoad): Promise<Result> {
  const [writer, reader] = [new Pool(writeUrl, { connections: callers }), new Pool(readUrl, { connections: callers })]
  const latency = makeHistogram()
  const end = performance.now() + durationMs
  let [done, errors] = [0, 0]
  const call = async () => {
    while (performance.now() < end) {
      const at = performance.now()
      const { statusCode, body } = Math.random() < readShare
        ? await reader.request({ method: 'GET', path: `/books/${ids[Math.floor(Math.random() * ids.length)]!}` })
        : await writer.request({ method: 'POST', path: '/books', headers: { 'content-type': 'application/json' }, body: bodies[Math.floor(Math.random() * bodies.length)]! })
      await body.dump()
      if (statusCode >= 300) {
        errors++
        continue
      }
      const now = performance.now()
      if (now > end) return
      done++
      latency.recordValue(Math.max(1, Math.round((now - at) * 1000)))
    }
  }
  await Promise.all(Array.from({ length: callers }, call))
  await Promise.all([writer.close(), reader.close()])
  return { perSecond: done / durationMs * 1000, errors, latencyMs: latenciesOf(latency) }
}
