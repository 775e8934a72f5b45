/** The options of `npm start` and `npm run scale` that say how many of each app there are to be. */
import { InvalidArgumentError, type Command } from 'commander'
import { instancesMax, type Counts } from './fleet.ts'

const options = { gateways: 'gateway', relays: 'relay', projectors: 'projector', queries: 'query' } as const
const said: Record<keyof typeof options, string> = {
  gateways: 'gateways, at one address',
  relays: 'relays: one is at work, the others stand by',
  projectors: 'projectors, which share the partitions of the topic',
  queries: 'query services, at one address'
}

export type CountOptions = Partial<Record<keyof typeof options, number>>

export function withCounts (command: Command): Command {
  return Object.entries(said).reduce((command, [name, text]) => command.option(`--${name} <number>`, text, count), command)
}

/** Those that were given. */
export const countsOf = (given: CountOptions): Partial<Counts> =>
  Object.fromEntries(Object.entries(options).flatMap(([option, app]) => given[option as keyof typeof options] === undefined ? [] : [[app, given[option as keyof typeof options]]]))

function count (text: string): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1 || number > instancesMax) throw new InvalidArgumentError(`It must be an integer from 1 to ${instancesMax}.`)
  return number
}
