/** npm start: the servers, the apps, as many of each as is said, and a first request to try; Ctrl-C stops what was started. */
import { createServer } from 'node:net'
import { Command, Option } from 'commander'
import { loadConfig, reason, setting } from '@bifold/service'
import { down, StackError, up } from '@bifold/stack'
import { takeOrders } from './control.ts'
import { countsOf, withCounts, type CountOptions } from './counts.ts'
import { openFleet, type Ports } from './fleet.ts'

const { brokers, dir, ...given } = withCounts(new Command('npm start --').description('Starts the servers and the apps, one of each if nothing else is said.'))
  .option('--dir <folder>', "the stack's folder: data, logs, settings", '.stack')
  .addOption(new Option('--brokers <number>', 'Kafka brokers').choices(['1', '3']).argParser(Number)).parse().opts<CountOptions & { brokers?: 1 | 3, dir: string }>()

try {
  await start()
} catch (error) {
  console.error(error instanceof StackError || !(error instanceof Error) ? String((error as Error).message) : `Bifold could not start: ${error.message}`)
  process.exitCode = 1
}

async function start () {
  const begun = Date.now()
  const { HOST: host, ...ports } = loadConfig({
    GATEWAY_PORT: setting.port(3000),
    QUERY_HTTP_PORT: setting.port(3001),
    PROJECTOR_PORT: setting.port(3002),
    RELAY_PORT: setting.port(3003),
    QUERY_GRPC_PORT: setting.port(50051)
  })
  const { GATEWAY_PORT, QUERY_HTTP_PORT, PROJECTOR_PORT, RELAY_PORT, QUERY_GRPC_PORT } = ports
  await portsAreFree(host, { GATEWAY_PORT, QUERY_HTTP_PORT, PROJECTOR_PORT, RELAY_PORT, QUERY_GRPC_PORT })

  const stop = Promise.withResolvers<string>()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop.resolve)
  const stack = await up({ dir, ...brokers === undefined ? {} : { brokers } })
  const fleet = await openFleet({ host, ports: { GATEWAY_PORT, QUERY_HTTP_PORT, PROJECTOR_PORT, RELAY_PORT, QUERY_GRPC_PORT }, env: { ...stack.env }, logFolder: `${dir}/logs`, say: console.error })
  const orders = await takeOrders(dir, fleet).catch((error: unknown) => console.error(`"npm run scale" will not reach this: ${reason(error)}`))
  try {
    const ready = fleet.resize({ gateway: 1, relay: 1, projector: 1, query: 1, ...countsOf(given) })
    const stopped = await Promise.race([ready, stop.promise])
    if (stopped === undefined) {
      console.log(welcome(host, ports, fleet.instances.length, (Date.now() - begun) / 1000))
      await stop.promise
    }
    console.log('\nStopping …')
  } finally {
    orders?.close()
    await fleet.stop()
    // Servers that ran before stay: somebody else may use them.
    if (stack.started.length > 0) await down({ dir, servers: stack.started })
  }
  console.log(`Stopped; the data is kept in ${dir}`)
}

/** Says which setting to change while nothing has been started yet. */
async function portsAreFree (host: string, ports: Record<string, number>) {
  for (const [variable, port] of Object.entries(ports)) {
    await new Promise<void>((resolve, reject) => {
      const probe = createServer().once('error', ({ code }: NodeJS.ErrnoException) => reject(new StackError(code === 'EADDRINUSE' ? `Port ${port} is taken: stop what listens there, or set ${variable} to another port.` : `Port ${port} (${variable}) cannot be listened on: ${code}`)))
        .listen(port, host, () => probe.close(() => resolve()))
    })
  }
}

function welcome (host: string, ports: Ports, processes: number, seconds: number): string {
  const at = (port: number) => `http://${host}:${port}`
  return `
Bifold is ready after ${seconds.toFixed(1)} s, in ${processes} processes.

  commands   ${at(ports.GATEWAY_PORT)}   (OpenAPI at ${at(ports.GATEWAY_PORT)}/docs)
  queries    ${at(ports.QUERY_HTTP_PORT)}   gRPC ${host}:${ports.QUERY_GRPC_PORT}
  projector  ${at(ports.PROJECTOR_PORT)}
  relay      ${at(ports.RELAY_PORT)}
  logs       ${dir}/logs

Try it:
  curl -i ${at(ports.GATEWAY_PORT)}/books -H 'content-type: application/json' -d '{"title":"Emma","authors":["Jane Austen"]}'
  curl '${at(ports.QUERY_HTTP_PORT)}/books?author=Jane%20Austen'

More of them, while it runs:
  npm run scale -- --gateways 2 --relays 2 --projectors 3 --queries 2

Ctrl-C stops everything.`
}
