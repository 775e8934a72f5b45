/** The command line of the stack: `npm run stack -- up | down | status`. */
import { join, resolve } from 'node:path'
import { Command, Option } from 'commander'
import { down, StackError, status, up } from './index.ts'
import { quietKafkajs } from './quiet.ts'

const dir = new Option('--dir <dir>', 'the folder of the stack').default('.stack')
const withoutPassword = (url: string): string => url.replace(/(\/\/[^:@/]+):[^@/]+@/, '$1@')
const fromHere = (path: string): string => path === '.stack' ? path : resolve(path)

const program = new Command('stack').description('The local PostgreSQL, Kafka and MongoDB')

program.command('up')
  .description('start whichever server is down, and wait until all answer')
  .addOption(dir)
  .addOption(new Option('--brokers <count>', 'Kafka brokers; three replicate each message').choices(['1', '3']))
  .option('--free-ports', 'listen on free ports instead of 5432, 9092 and 27017')
  .action(async (options: { dir: string, brokers?: '1' | '3', freePorts?: boolean }) => {
    const dir = fromHere(options.dir)
    await up({
      dir,
      ...options.brokers && { brokers: Number(options.brokers) as 1 | 3 },
      ports: options.freePorts ? 'free' : 'default'
    })
    console.log(`The stack is up; its addresses are in ${join(dir, 'env')}`)
  })

program.command('down')
  .description('stop the servers')
  .addOption(dir)
  .option('--purge', 'remove their data, too; downloads are kept')
  .action(async (options: { dir: string, purge?: boolean }) => {
    await down({ dir: fromHere(options.dir), purge: options.purge ?? false })
    console.log(options.purge ? 'The stack is down, and its data is removed.' : 'The stack is down; its data is kept.')
  })

program.command('status')
  .description('ask each server how it is; exits 0 only if all answer')
  .addOption(dir)
  .action(async (options: { dir: string }) => {
    const servers = await status({ dir: fromHere(options.dir) })
    for (const { title, answers, source, version, url, processes } of servers) {
      const running = processes.some(({ pid }) => pid)
      const state = answers ? 'answers' : running ? 'runs, but does not answer' : 'is down'
      const from = [version, source].filter(Boolean).join(' from ')
      console.log(`${title} ${state}${from && ` (${from})`}${url && `, ${withoutPassword(url)}`}`)
      for (const { name, pid, log } of processes) console.log(`  ${name}: ${pid ? `pid ${pid}` : 'no process'}, log ${log}`)
    }
    if (!servers.every(({ answers }) => answers)) process.exitCode = 1
  })

quietKafkajs()
try {
  await program.parseAsync()
} catch (error) {
  console.error(error instanceof StackError ? `\n${error.message}` : error)
  process.exitCode = 1
}
