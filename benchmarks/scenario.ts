/** What a scenario is: it runs contenders against each other and gives a section of the report. */
import type { Environment } from './environment.ts'
import type { Latencies, Result } from './load/result.ts'

export interface Scenario {
  readonly name: string
  run (bench: Bench): Promise<Section>
}

export interface Bench {
  readonly env: Environment
  readonly quick: boolean
  readonly plan: Plan
  /** Shows what is going on. */
  say (text: string): void
}

/** How often and how long each contender is measured. */
export interface Plan { readonly warmupMs: number, readonly roundMs: number, readonly rounds: number }

export interface Section {
  readonly scenario: string
  readonly title: string
  /** The outcome in one sentence. */
  readonly sentence: string
  readonly tables: readonly Table[]
  readonly charts: readonly Chart[]
  readonly goals: readonly Goal[]
}

export type Cell = string | number

export interface Table { readonly columns: readonly string[], readonly rows: readonly (readonly Cell[])[] }

export type Chart =
  | { readonly kind: 'bars', readonly title: string, readonly unit: string, readonly bars: readonly { readonly name: string, readonly value: number }[] }
  | { readonly kind: 'lines', readonly title: string, readonly x: string, readonly y: string, readonly lines: readonly { readonly name: string, readonly points: readonly (readonly [number, number])[] }[] }

/** What was asked for, and what was measured; at least or at most. */
export interface Goal { readonly what: string, readonly asked: number, readonly sense: 'at least' | 'at most', readonly measured: number, readonly unit: string }

export const isMet = ({ asked, sense, measured }: Goal): boolean => sense === 'at least' ? measured >= asked : measured <= asked

/** One of those that are compared. */
export interface Runner {
  readonly name: string
  run (durationMs: number): Promise<Result>
  /** Waits until what the load has left behind is done. */
  settle? (): Promise<void>
}

export interface Measured {
  readonly name: string
  /** Of the rounds: the median, the lowest and the highest. */
  readonly perSecond: Spread
  /** Per second, in each round. */
  readonly rounds: readonly number[]
  readonly latencyMs: Latencies
  readonly errors: number
}

export interface Spread { readonly median: number, readonly min: number, readonly max: number }

export function spreadOf (values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return { median: sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2, min: sorted[0]!, max: sorted.at(-1)! }
}

/** Measures each contender once a round, to and fro, so that what slows the machine down slows all of them. */
export async function compare (runners: readonly Runner[], { say, plan: { warmupMs, roundMs, rounds } }: Bench): Promise<Measured[]> {
  for (const { name, run, settle } of runners) {
    say(`${name}: warming up`)
    await run(warmupMs)
    await settle?.()
  }
  const results = new Map<string, Result[]>(runners.map(({ name }) => [name, []]))
  for (let round = 1; round <= rounds; round++) {
    for (const { name, run, settle } of round % 2 === 1 ? runners : runners.toReversed()) {
      say(`${name}: round ${round} of ${rounds}`)
      results.get(name)!.push(await run(roundMs))
      await settle?.()
    }
  }
  return [...results].map(([name, measured]) => {
    const rounds = measured.map(({ perSecond }) => perSecond)
    const medianMs = (percentile: keyof Latencies) => spreadOf(measured.map(({ latencyMs }) => latencyMs[percentile])).median
    return {
      name,
      perSecond: spreadOf(rounds),
      rounds,
      latencyMs: { p50: medianMs('p50'), p99: medianMs('p99'), p999: medianMs('p999') },
      errors: measured.reduce((total, { errors }) => total + errors, 0)
    }
  })
}

/** How one stands to another: the median of their ratios round by round. A machine that is slow for a while is so for both in a round, and not in the next. */
export const ratioOf = (one: Measured, other: Measured): number => hundredth(spreadOf(one.rounds.map((perSecond, round) => perSecond / other.rounds[round]!)).median)

/** A table of what was compared, with each one's ratio to the first. */
export function comparison (measured: readonly Measured[], unit: string): Table {
  const [first] = measured
  return {
    columns: ['', `${unit}/s (median)`, 'lowest', 'highest', `ratio to ${first!.name}`, 'p50 ms', 'p99 ms', 'errors'],
    rows: measured.map(one => {
      const { name, perSecond: { median, min, max }, latencyMs: { p50, p99 }, errors } = one
      return [name, whole(median), whole(min), whole(max), ratioOf(one, first!), tenth(p50), tenth(p99), errors]
    })
  }
}

export const bars = (title: string, unit: string, measured: readonly Measured[]): Chart =>
  ({ kind: 'bars', title, unit, bars: measured.map(({ name, perSecond }) => ({ name, value: whole(perSecond.median) })) })

export const latencyBars = (title: string, measured: readonly Measured[]): Chart =>
  ({ kind: 'lines', title, x: 'percentile', y: 'ms', lines: measured.map(({ name, latencyMs: { p50, p99, p999 } }) => ({ name, points: [[50, p50], [99, p99], [99.9, p999]] })) })

export const whole = (value: number): number => Math.round(value)
export const tenth = (value: number): number => Math.round(value * 10) / 10
export const hundredth = (value: number): number => Math.round(value * 100) / 100
export const number = (value: number): string => value.toLocaleString('en-US')
