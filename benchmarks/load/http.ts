/** Sends HTTP requests as fast as they are answered: autocannon, a fixed number of connections. */
import autocannon from 'autocannon'
import type { Result } from './result.ts'

export interface HttpLoad {
  readonly url: string
  /** Taken in turn by each connection. */
  readonly requests: readonly { method: string, path: string, headers?: Record<string, string>, body?: string }[]
  readonly connections: number
  /** Each `[<id>]` in a request is replaced by another id. */
  readonly ids?: boolean
  readonly durationMs: number
}

export async function runHttp ({ url, requests, connections, durationMs, ids = false }: HttpLoad): Promise<Result> {
  const result = await autocannon({ url, requests: requests as autocannon.Request[], connections, duration: durationMs / 1000, timeout: 30, sampleInt: 100, idReplacement: ids })
  const { p50, p99, p99_9: p999 } = result.latency as unknown as { p50: number, p99: number, p99_9: number }
  return { perSecond: result['2xx'] / result.duration, errors: result.errors + result.non2xx, latencyMs: { p50, p99, p999 } }
}
