/** Rebuild: how fast `npm run rebuild` makes read models anew from the event log. */
import { execa } from 'execa'
import type { Stores } from '../environment.ts'
import { allReadModels, ofBooks, untilSent } from '../pipeline.ts'
import { addCommitted, reviseCommitted } from '../seed.ts'
import { number, spreadOf, tenth, whole, type Scenario } from '../scenario.ts'

const rateOf = /([\d,]+) events\/s while reading them/

interface Rebuilt { readonly perSecond: number, readonly seconds: number }

export const rebuild: Scenario = {
  name: 'rebuild',
  async run ({ env, quick, say, plan }) {
    const books = quick ? 10_000 : 100_000
    const events = 2 * books // each is added, and revised once
    const stores = await env.stores()
    say(`committing ${number(events)} events`)
    await reviseCommitted(stores, await addCommitted(stores, books), 1)
    const relay = await env.start('relay', stores.env) // a rebuild is done when what the relay has not sent yet is on the topic
    await untilSent(relay)
    const runs = [...ofBooks.map(name => [name]), allReadModels].map(set => ({ name: set.length === 1 ? set[0]! : `all ${set.length} at once`, set, rebuilt: [] as Rebuilt[] }))
    for (let round = 1; round <= plan.rounds; round++) {
      for (const { name, set, rebuilt } of runs) {
        say(`round ${round} of ${plan.rounds}: ${name}`)
        rebuilt.push(await once(stores, set))
      }
    }
    const rates = runs.map(({ name, rebuilt }) => ({ name, rate: spreadOf(rebuilt.map(({ perSecond }) => perSecond)), seconds: spreadOf(rebuilt.map(({ seconds }) => seconds)) }))
    const [first, last] = [rates[0]!, rates.at(-1)!]
    return {
      scenario: 'rebuild',
      title: 'Rebuild of the read models',
      sentence: `From ${number(events)} events, half of them revisions, the catalogue is rebuilt at ${number(whole(first.rate.median))} events/s, all ${allReadModels.length} read models at once at ${number(whole(last.rate.median))}; with the start of the process, the indexes and the switch that takes ${tenth(first.seconds.median)} and ${tenth(last.seconds.median)} s.`,
      tables: [{
        columns: [`${number(events)} events`, 'events/s while reading them (median)', 'lowest', 'highest', 's in all (median)'],
        rows: rates.map(({ name, rate: { median, min, max }, seconds }) => [name, whole(median), whole(min), whole(max), tenth(seconds.median)])
      }],
      charts: [{ kind: 'bars', title: `Rebuilt from ${number(events)} events`, unit: 'events/s', bars: rates.map(({ name, rate }) => ({ name, value: whole(rate.median) })) }],
      goals: [{ what: `rebuild of ${first.name}`, asked: 50_000, sense: 'at least', measured: whole(first.rate.median), unit: ' events/s' }]
    }
  }
}

async function once ({ env }: Stores, set: readonly string[]): Promise<Rebuilt> {
  const begun = performance.now()
  const { stdout } = await execa('npm', ['run', 'rebuild', '--', ...set], { env })
  const [, rate] = rateOf.exec(stdout) ?? []
  if (rate === undefined) throw new Error(`The rebuild did not tell its rate: ${stdout}`)
  return { perSecond: Number(rate.replaceAll(',', '')), seconds: (performance.now() - begun) / 1000 }
}
