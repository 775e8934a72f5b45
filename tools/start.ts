/** npm start: the servers, the apps, as many of each as is said, and a first request to try; Ctrl-C stops what was started. */
import { Command, Option } from 'commander'
import { aborted, loadConfig, reason, setting } from '@bifold/service'
import { down, StackError, up, type UpOptions } from '@bifold/stack'
import { takeOrders } from './control.ts'
import { NotReadyError } from './apps.ts'
import { countsOf, withCounts, type CountOptions } from './counts.ts'
import { openFleet, type Counts, type FleetOptions } from './fleet.ts'
import { addressOf, portsAreFree, type Ports } from './ports.ts'

export interface StartOptions extends Pick<FleetOptions, 'mains' | 'readyMs'> {
  readonly dir: string
  readonly counts?: Partial<Counts>
  /** How the servers are to be had. */
  readonly servers?: Omit<UpOptions, 'dir'>
}

if (import.meta.main) {
  const { brokers, dir, ...given } = withCounts(new Command('npm start --').description('Starts the servers and the apps, one of each if nothing else is said.'))
    .option('--dir <folder>', "the stack's folder: data, logs, settings", '.stack')
    .addOption(new Option('--brokers <number>', 'Kafka brokers').choices(['1', '3']).argParser(Number)).parse().opts<CountOptions & { brokers?: 1 | 3, dir: string }>()
  try {
    await start({ dir, counts: countsOf(given), servers: brokers === undefined ? {} : { brokers } })
  } catch (error) {
    console.error(error instanceof StackError || !(error instanceof Error) ? String((error as Error).message) : `Bifold could not start: ${error.message}`)
    process.exitCode = 1
  }
}

export async function start ({ dir, counts = {}, servers = {}, ...apps }: StartOptions): Promise<void> {
  const begun = Date.now()
  const { HOST: host, ...settings } = loadConfig({
    GATEWAY_PORT: setting.port(3000),
    QUERY_HTTP_PORT: setting.port(3001),
    PROJECTOR_PORT: setting.port(3002),
    RELAY_PORT: setting.port(3003),
    QUERY_GRPC_PORT: setting.port(50051)
  })
  const { GATEWAY_PORT, QUERY_HTTP_PORT, PROJECTOR_PORT, RELAY_PORT, QUERY_GRPC_PORT } = settings
  const ports = { GATEWAY_PORT, QUERY_HTTP_PORT, PROJECTOR_PORT, RELAY_PORT, QUERY_GRPC_PORT }
  await portsAreFree(host, ports)

  const stop = new AbortController()
  stop.signal.addEventListener('abort', () => console.log('\nStopping …'))
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort())
  const stack = await up({ dir, ...servers })
  try {
    if (!stop.signal.aborted) await runApps(stop.signal)
  } finally {
    // Servers that ran before stay: somebody else may use them.
    if (stack.started.length > 0) await down({ dir, servers: stack.started })
  }
  console.log(`Stopped; the data is kept in ${dir}`)

  async function runApps (stopped: AbortSignal) {
    const fleet = await openFleet({ host, ports, env: { ...stack.env }, logFolder: `${dir}/logs`, say: console.error, ...apps })
    const orders = await takeOrders(dir, fleet).catch((error: unknown) => console.error(`"npm run scale" will not reach this: ${reason(error)}`))
    try {
      const ready = fleet.resize({ gateway: 1, relay: 1, projector: 1, query: 1, ...counts }).catch((error: unknown) => {
        if (error instanceof NotReadyError) return error
        throw error
      })
      const late = await Promise.race([ready, aborted(stopped)])
      if (!stopped.aborted) console.log(welcome(host, ports, dir, { processes: fleet.instances.length, seconds: (Date.now() - begun) / 1000, late: late?.message }))
      await aborted(stopped)
    } finally {
      orders?.close()
      await fleet.stop()
    }
  }
}

/** What runs where, and what to do next; `late` says why not all of it is ready. */
function welcome (host: string, ports: Ports, dir: string, { processes, seconds, late }: { processes: number, seconds: number, late: string | undefined }): string {
  const at = (port: number) => `http://${addressOf(host, port)}`
  const state = late === undefined ? `Bifold is ready after ${seconds.toFixed(1)} s, in ${processes} processes.` : `Bifold runs in ${processes} processes, and not all of them are ready:\n${late}`
  const next = late === undefined ? request(at(ports.GATEWAY_PORT), at(ports.QUERY_HTTP_PORT)) : patience(at(ports.PROJECTOR_PORT))
  return `
${state}

  commands   ${at(ports.GATEWAY_PORT)}   (OpenAPI at ${at(ports.GATEWAY_PORT)}/docs)
  queries    ${at(ports.QUERY_HTTP_PORT)}   gRPC ${addressOf(host, ports.QUERY_GRPC_PORT)}
  projector  ${at(ports.PROJECTOR_PORT)}
  relay      ${at(ports.RELAY_PORT)}
  logs       ${dir}/logs

${next}

Ctrl-C stops everything.`
}

function request (gateway: string, query: string): string {
  return `Try it:
  curl -i ${gateway}/books -H 'content-type: application/json' -d '{"title":"Emma","authors":["Jane Austen"]}'
  curl '${query}/books?author=Jane%20Austen'

More of them, while it runs:
  npm run scale -- --gateways 2 --relays 2 --projectors 3 --queries 2`
}

function patience (projector: string): string {
  return `They go on. What is being built becomes ready by itself; what a reason asks for, such as npm run rebuild, can be done now, in another terminal.
Each process tells how far it is, the projector here:
  curl ${projector}/health/ready`
}
