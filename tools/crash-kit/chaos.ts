/** Kills and pauses apps and servers at random moments, by a seed. */
import { setTimeout } from 'node:timers/promises'
import type { Actor, Actors } from './actors.ts'
import { makeRandom } from './random.ts'

export interface ChaosOptions { readonly actors: Actors, readonly seconds: number, readonly seed: number, readonly say: (line: string) => void }

export interface Told { kills: number, pauses: number }

const calmMs = [300, 3000] as const // between two strokes: some hit a system that is still getting up from the one before
const pauseMs = [200, 15_000] as const // up to beyond a projector's session of 10 s: its partitions go to the other one, and it does not know
const downMs = [0, 3000] as const // a server that was killed stays down for so long

/** Resolves when the time is over and everything that it began is done. */
export async function chaos ({ actors, seconds, seed, say }: ChaosOptions): Promise<Told> {
  const random = makeRandom(seed)
  const told: Told = { kills: 0, pauses: 0 }
  const busy = new Map<Actor, Promise<void>>()
  const end = Date.now() + seconds * 1000
  while (Date.now() < end) {
    await setTimeout(random.between(...calmMs))
    const actor = random.of(actors.all)
    const kill = random.between(0, 2) > 0
    const [shortest, longest] = kill ? downMs : pauseMs
    const ms = random.between(shortest, longest)
    if (busy.has(actor)) continue // it has not got up yet
    told[kill ? 'kills' : 'pauses']++
    say(kill ? `${actor.name}: kill -9` : `${actor.name}: paused for ${ms} ms`)
    busy.set(actor, stroke(actor, kill, ms).finally(() => busy.delete(actor)))
  }
  await Promise.all(busy.values())
  return told
}

async function stroke (actor: Actor, kill: boolean, ms: number): Promise<void> {
  if (!kill) return await actor.pause(ms)
  await actor.kill()
  await setTimeout(ms)
  await actor.revive()
}
