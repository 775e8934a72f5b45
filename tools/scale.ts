/** The command line that resizes what `npm start` runs: `npm run scale -- --projectors 3`. */
import { Command } from 'commander'
import { reason } from '@bifold/service'
import { order, type Running } from './control.ts'
import { countsOf, withCounts, type CountOptions } from './counts.ts'

const given = withCounts(new Command('scale')
  .description('Resizes what npm start runs in another terminal, while it works; without numbers, shows what runs and where each process tells how it is (/health/ready, /metrics).')
  .option('--dir <folder>', "the stack's folder that npm start was given", '.stack'))
  .parse().opts<CountOptions & { dir: string }>()

try {
  const counts = countsOf(given)
  print(await order(given.dir, Object.keys(counts).length === 0 ? undefined : counts))
} catch (error) {
  console.error(reason(error))
  process.exitCode = 1
}

function print (running: Running): void {
  for (const { app, number, url } of running) console.log(`${`${app} ${number}`.padEnd(14)}${url}`)
}
