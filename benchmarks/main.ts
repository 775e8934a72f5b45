/** The command line of the benchmarks: `npm run bench -- [scenario …] [--quick]`. */
import { Argument, Command } from 'commander'
import { Listr } from 'listr2'
import { makeEnvironment, type Environment } from './environment.ts'
import { facts } from './machine.ts'
import { told, write } from './report.ts'
import { bulk } from './scenarios/bulk.ts'
import { drain } from './scenarios/drain.ts'
import { growth } from './scenarios/growth.ts'
import { keys } from './scenarios/keys.ts'
import { question } from './scenarios/question.ts'
import { queue } from './scenarios/queue.ts'
import { reads } from './scenarios/reads.ts'
import { rebuild } from './scenarios/rebuild.ts'
import { tokens } from './scenarios/tokens.ts'
import { visible } from './scenarios/visible.ts'
import { watch } from './scenarios/watch.ts'
import { writes } from './scenarios/writes.ts'
import type { Plan, Section } from './scenario.ts'

const scenarios = [writes, keys, bulk, queue, reads, tokens, question, visible, drain, rebuild, growth, watch]

// Three rounds are the least that have a median; a run of all stays under 30 minutes, a quick one under 8.
const plans = { full: { warmupMs: 2000, roundMs: 4000, rounds: 3 }, quick: { warmupMs: 500, roundMs: 800, rounds: 3 } } satisfies Record<string, Plan>

interface Options { quick?: boolean, publish?: boolean, out: string }

await new Command('bench').description('Measures Bifold against what it is compared with, on servers of its own, and writes the report.')
  .addArgument(new Argument('[scenario...]', 'which to run; all, if none is named').choices(scenarios.map(({ name }) => name)))
  .option('--quick', 'short rounds and small backlogs: a look, not a result')
  .option('--out <folder>', 'where the report goes', '.bench')
  .option('--publish', 'writes the report to docs/ instead')
  .action(run)
  .parseAsync()

async function run (names: string[], { quick = false, publish = false, out }: Options) {
  const on = facts() // first: a fault in them must not cost a run
  const begun = performance.now()
  const chosen = scenarios.filter(({ name }) => names.length === 0 || names.includes(name))
  const sections: Section[] = []
  let env: Environment | undefined
  try {
    await new Listr([
      { title: 'servers', task: async () => { env = await makeEnvironment() } },
      ...chosen.map(({ name, run }) => ({
        title: name,
        exitOnError: false, // the others have their figures all the same
        async task (_: unknown, task: { output: string | undefined, title: string }) {
          try {
            const section = await run({ env: env!, quick, plan: quick ? plans.quick : plans.full, say: text => { task.output = text } })
            sections.push(section)
            task.title = `${name}: ${section.sentence}`
          } finally {
            await env!.clear() // what goes on running would be in the figures of the next
          }
        }
      }))
    ], { rendererOptions: { removeEmptyLines: false } }).run()
  } finally {
    await env?.close()
  }
  const report = { ...on, quick, seconds: (performance.now() - begun) / 1000, sections }
  const files = write(report, publish ? 'docs' : out)
  console.log(`\n${told(report)}\n\n${files.join('\n')}`)
  const failed = chosen.map(({ name }) => name).filter(name => sections.every(({ scenario }) => scenario !== name))
  if (failed.length === 0) return
  console.error(`No figures of ${failed.join(', ')}: the scenario failed.`)
  process.exitCode = 1
}
