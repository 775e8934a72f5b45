/** Latencies, kept as a histogram: microseconds with three digits, up to a minute. */
import { build, type Histogram } from 'hdr-histogram-js'
import type { Latencies } from './result.ts'

export const makeHistogram = (): Histogram => build({ lowestDiscernibleValue: 1, highestTrackableValue: 60_000_000, numberOfSignificantValueDigits: 3 })

export function latenciesOf (histogram: Histogram): Latencies {
  const at = (percentile: number) => histogram.getValueAtPercentile(percentile) / 1000
  return { p50: at(50), p99: at(99), p999: at(99.9) }
}
