/** Kafka's own console tools on the stack's brokers: `npm run kafka -- topics | produce | consume …`. */
import { Command } from 'commander'
import { composeKafkaTool } from './docker.ts'
import { folderAt, readEnv, readRecord } from './folder.ts'
import { kafka, runTool } from './kafka-server.ts'
import { quietKafkajs } from './quiet.ts'
import { StackError } from './server.ts'

/** Each tool as a class of Kafka's, and as the script that runs it in Kafka's container. */
const tools = {
  topics: { className: 'org.apache.kafka.tools.TopicCommand', script: 'kafka-topics', does: 'create, list, describe and delete topics' },
  produce: { className: 'org.apache.kafka.tools.ConsoleProducer', script: 'kafka-console-producer', does: 'send each line of the input as a message' },
  consume: { className: 'org.apache.kafka.tools.consumer.ConsoleConsumer', script: 'kafka-console-consumer', does: 'print messages; --from-beginning prints those that are there' }
} as const

/** What names topics to the consumer; without any of it, the topic of the events is meant. */
const topicOptions = ['--topic', '--include', '--whitelist', '--help']

async function run (tool: keyof typeof tools, args: string[]): Promise<number> {
  const { className, script } = tools[tool]
  const names = tool === 'topics' || args.some(argument => topicOptions.includes(argument.split('=')[0]!))
  const topic = names ? [] : ['--topic', process.env.EVENTS_TOPIC ?? 'cqrstopic']
  const brokers = await runningBrokers()
  const all = ['--bootstrap-server', brokers, ...topic, ...args]
  const record = await readRecord(await folderAt('.stack'))
  const inDocker = record?.servers.kafka?.source === 'Docker' && record.servers.kafka.url === brokers
  return inDocker ? await composeKafkaTool(script, all) : await runTool(className, all, doing => console.error(`Kafka: ${doing}`))
}

/** The brokers' addresses, once they have answered: the tools themselves would wait a minute and then not say why. */
async function runningBrokers (): Promise<string> {
  const brokers = process.env.KAFKA_BROKERS ?? (await readEnv())?.KAFKA_BROKERS
  if (!brokers) throw new StackError('No stack is up here: run "npm run stack -- up" first, or set KAFKA_BROKERS.')
  if (!process.env.KAFKA_BROKERS) {
    await kafka.answers(brokers, 1).catch((error: Error) => {
      throw new StackError(`Kafka at ${brokers} does not answer (${error.message}): run "npm run stack -- up".`, { cause: error })
    })
  }
  return brokers
}

quietKafkajs()
const program = new Command('kafka').description('Kafka\'s own console tools on the stack\'s brokers').enablePositionalOptions()
for (const tool of Object.keys(tools) as Array<keyof typeof tools>) {
  program.command(tool)
    .description(tools[tool].does)
    .argument('[options...]', 'as the tool itself describes them: --help')
    .helpOption(false)
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (args: string[]) => { process.exitCode = await run(tool, args) })
}

try {
  await program.parseAsync()
} catch (error) {
  console.error(error instanceof StackError ? error.message : error)
  process.exitCode = 1
}
