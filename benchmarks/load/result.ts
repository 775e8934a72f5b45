/** What a load has seen. */
export interface Result {
  /** Calls that were answered as they should be. */
  readonly perSecond: number
  /** Calls that were not. */
  readonly errors: number
  readonly latencyMs: Latencies
}

export interface Latencies { readonly p50: number, readonly p99: number, readonly p999: number }
