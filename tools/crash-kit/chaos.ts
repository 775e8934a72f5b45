/** Kills and pauses apps and servers at random moments, by a seed. */
import { setTimeout } from 'node:timers/promises'
import type { Actor, Actors } from './actors.ts'
import { makeRandom, type Random } from './random.ts'

export interface ChaosOptions {
  readonly actors: Actors
  readonly seconds: number
  readonly seed: number
  /** True when everything has got up again. */
  readonly ready: () => Promise<boolean>
  readonly say: (line: string) => void
}

export interface Told { kills: number, pauses: number }

const calmMs = [300, 3000] as const // between two strokes: some hit a system that is still getting up from the one before
const salvo = 3 // kills of a server in full work, one after the other: what can be lost with it is under way for a millisecond, and not each hits one
const hangMs = [100, 500] as const // before the first of them, so that something is under way for certain
const blowsMax = 3 // in full work, before the next storm
const pauseMs = [200, 15_000] as const // up to beyond every lease
const downMs = [0, 3000] as const // a server that was killed stays down for so long
const stormStrokes = [4, 8] as const // strokes on anything, before the next blows
const zombieMs = [8000, 13_000] as const // beyond a consumer's session and the relay's lease of 6 s: another does its work, and it does not know
const steadyMs = 500 // in which work piles up before it
const readyMs = 40_000 // a projector that was killed gets its partitions back after its session of 6 s; all is slower under full load

/** What is done to one of them while all others are well. */
interface Blow { readonly actor: Actor, readonly kill: boolean }

/** Resolves when the time is over and everything that it began is done. */
export async function chaos (options: ChaosOptions): Promise<Told> {
  const { actors, seconds, seed } = options
  const random = makeRandom(seed)
  const told: Told = { kills: 0, pauses: 0 }
  const end = Date.now() + seconds * 1000
  // As from a deck of cards: by chance alone, one of them might never come.
  const strokes = deck(random, actors.all)
  const blows = deck(random, [...actors.servers.map((actor): Blow => ({ actor, kill: true })), ...actors.holders.map((actor): Blow => ({ actor, kill: false }))])
  while (Date.now() < end) {
    // First, so that a short run has one.
    await storm(options, strokes, random, told, end)
    // A storm leaves nothing at full work for long, and what is hit in full work shows the most.
    for (let count = random.between(1, blowsMax); count > 0 && Date.now() < end; count--) await inFullWork(options, blows.next().value, random, told, end)
  }
  return told
}

/** All of them in random order, again and again. */
function * deck<T> (random: Random, cards: readonly T[]): Generator<T, never> {
  while (true) {
    for (const left = [...cards]; left.length > 0;) yield left.splice(random.between(0, left.length - 1), 1)[0]!
  }
}

/** Strokes on anything, some at a time. */
async function storm ({ say }: ChaosOptions, actors: Iterator<Actor, never>, random: Random, told: Told, end: number): Promise<void> {
  const busy = new Map<Actor, Promise<void>>()
  for (let strokes = random.between(...stormStrokes); strokes > 0 && Date.now() < end; strokes--) {
    await setTimeout(random.between(...calmMs))
    const actor = actors.next().value
    const kill = random.between(0, 2) > 0
    const [shortest, longest] = kill ? downMs : pauseMs
    const ms = random.between(shortest, longest)
    if (busy.has(actor)) continue // it has not got up yet
    told[kill ? 'kills' : 'pauses']++
    say(kill ? `${actor.name}: kill -9` : `${actor.name}: paused for ${ms} ms`)
    busy.set(actor, stroke(actor, kill, ms).finally(() => busy.delete(actor)))
  }
  await Promise.all(busy.values())
}

/** Waits until all are well; then freezes one that holds something for a time, until it has lost that, or kills a server, some times. */
async function inFullWork (options: ChaosOptions, { actor, kill }: Blow, random: Random, told: Told, end: number): Promise<void> {
  for (let count = kill ? salvo : 1; count > 0; count--) {
    const ms = random.between(...(kill ? downMs : zombieMs) as readonly [number, number])
    if (!await allWell(options, end)) return
    await setTimeout(steadyMs)
    told[kill ? 'kills' : 'pauses']++
    const hang = kill && count === salvo ? random.between(...hangMs) : 0
    options.say(`${actor.name}: ${kill ? `kill -9${hang > 0 ? `, after it hung for ${hang} ms` : ''}` : `paused for ${ms} ms`}, with all others well`)
    await stroke(actor, kill, ms, hang)
  }
}

/** @returns false if it took too long */
async function allWell ({ ready }: ChaosOptions, end: number): Promise<boolean> {
  for (const at = Date.now(); !await ready().catch(() => false);) {
    if (Date.now() - at > readyMs || Date.now() > end) return false
    await setTimeout(calmMs[0])
  }
  return true
}

async function stroke (actor: Actor, kill: boolean, ms: number, hangMs = 0): Promise<void> {
  if (!kill) return await actor.pause(ms)
  await actor.kill(hangMs)
  await setTimeout(ms)
  await actor.revive()
}
