/** Chance that can be repeated: the same seed gives the same sequence. */
import { uniformInt } from 'pure-rand/distribution/uniformInt'
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus'

export interface Random {
  /** An integer, both ends included. */
  between (low: number, high: number): number
  /** One of them. */
  of<T> (choices: readonly T[]): T
}

export function makeRandom (seed: number): Random {
  const generator = xoroshiro128plus(seed)
  const between = (low: number, high: number) => uniformInt(generator, low, high)
  return { between, of: choices => choices[between(0, choices.length - 1)]! }
}
