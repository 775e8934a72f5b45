/** The four apps as a scenario uses them, and how far the projector has got. */
import { setTimeout } from 'node:timers/promises'
import { modules } from '@bifold/modules'
import type { Contender, Environment, Stores } from './environment.ts'

export interface Pipeline { readonly gateway: Contender, readonly relay: Contender, readonly projector: Contender, readonly query: Contender }

const drainMs = 300_000 // a backlog that is not done in five minutes is not being worked on

export async function pipelineOf (env: Environment, stores: Stores): Promise<Pipeline> {
  const [gateway, relay, projector, query] = await Promise.all((['gateway', 'relay', 'projector', 'query'] as const).map(async name => await env.start(name, stores.env)))
  return { gateway: gateway!, relay: relay!, projector: projector!, query: query! }
}

const relayLag = async (relay: Contender) => await relay.metric('bifold_relay_lag_events')

/** Waits until each committed event is in the read models. */
export async function untilDrained ({ relay, projector }: Pick<Pipeline, 'relay' | 'projector'>): Promise<void> {
  await untilNone(async () => await relayLag(relay) + await projector.metric('bifold_projector_lag_events'))
}

/** Waits until each committed event is in Kafka. */
export async function untilSent (relay: Contender): Promise<void> {
  await untilNone(async () => await relayLag(relay))
}

async function untilNone (lagOf: () => Promise<number>) {
  const end = Date.now() + drainMs
  for (let quiet = 0; quiet < 3;) { // two lags are read one after the other: an event may be between them
    const lag = await lagOf()
    quiet = lag === 0 ? quiet + 1 : 0
    if (Date.now() > end) throw new Error(`The backlog of ${lag} events was not done within ${drainMs / 1000} s`)
    await setTimeout(50)
  }
}

const projections = modules.flatMap(({ projections }) => projections)

/** All read models: the query service is ready when they are there. */
export const allReadModels: readonly string[] = projections.map(({ collection }) => collection)

/** The read models that show books; the first is the catalogue. */
export const ofBooks: readonly string[] = projections.filter(({ on }) => 'BookAdded' in on).map(({ collection }) => collection)

/** How many events the projector has applied to the read model that is furthest behind. */
export const applied = (figure: (name: string) => number, readModels = ofBooks): number =>
  Math.min(...readModels.map(readModel => figure(`bifold_projector_events_total{read_model="${readModel}"}`)))
