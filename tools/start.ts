/** npm start: the servers, the four apps, and a first request to try; Ctrl-C stops what was started. */
import { createServer } from 'node:net'
import { Command, Option } from 'commander'
import { loadConfig, setting } from '@bifold/service'
import { down, StackError, up } from '@bifold/stack'
import { appNames, runApp, untilReady } from './apps.ts'

const readyMs = 60_000 // a first start migrates and joins the group: some 3 s here

const { brokers, dir } = new Command('npm start --').description('Starts the servers and the four apps.')
  .option('--dir <folder>', "the stack's folder: data, logs, settings", '.stack')
  .addOption(new Option('--brokers <number>', 'Kafka brokers').choices(['1', '3']).argParser(Number)).parse().opts<{ brokers?: 1 | 3, dir: string }>()

try {
  await start()
} catch (error) {
  console.error(error instanceof StackError || !(error instanceof Error) ? String((error as Error).message) : `Bifold could not start: ${error.message}`)
  process.exitCode = 1
}

async function start () {
  const begun = Date.now()
  const ports = loadConfig({
    GATEWAY_PORT: setting.port(3000),
    QUERY_HTTP_PORT: setting.port(3001),
    PROJECTOR_PORT: setting.port(3002),
    RELAY_PORT: setting.port(3003),
    QUERY_GRPC_PORT: setting.port(50051)
  })
  await portsAreFree(ports.HOST, { GATEWAY_PORT: ports.GATEWAY_PORT, QUERY_HTTP_PORT: ports.QUERY_HTTP_PORT, PROJECTOR_PORT: ports.PROJECTOR_PORT, RELAY_PORT: ports.RELAY_PORT, QUERY_GRPC_PORT: ports.QUERY_GRPC_PORT })

  const stop = Promise.withResolvers<string>()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop.resolve)
  const stack = await up({ dir, ...brokers === undefined ? {} : { brokers } })
  const apps = appNames.map(name => runApp(name, { env: { ...stack.env }, logFolder: `${dir}/logs`, say: console.error }))
  const urls = {
    gateway: `http://${ports.HOST}:${ports.GATEWAY_PORT}`,
    query: `http://${ports.HOST}:${ports.QUERY_HTTP_PORT}`,
    projector: `http://${ports.HOST}:${ports.PROJECTOR_PORT}`,
    relay: `http://${ports.HOST}:${ports.RELAY_PORT}`
  }
  try {
    const ready = Promise.all(appNames.map(async name => await untilReady(name, urls[name], readyMs)))
    const stopped = await Promise.race([ready.then(() => undefined), stop.promise])
    if (stopped === undefined) {
      console.log(welcome(urls, `${ports.HOST}:${ports.QUERY_GRPC_PORT}`, (Date.now() - begun) / 1000))
      await stop.promise
    }
    console.log('\nStopping …')
  } finally {
    await Promise.all(apps.map(app => app.stop()))
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

function welcome (urls: Record<string, string>, grpc: string, seconds: number): string {
  return `
Bifold is ready after ${seconds.toFixed(1)} s.

  commands   ${urls['gateway']}   (OpenAPI at ${urls['gateway']}/docs)
  queries    ${urls['query']}   gRPC ${grpc}
  projector  ${urls['projector']}
  relay      ${urls['relay']}
  logs       ${dir}/logs

Try it:
  curl -i ${urls['gateway']}/books -H 'content-type: application/json' -d '{"title":"Emma","authors":["Jane Austen"]}'
  curl '${urls['query']}/books?author=Jane%20Austen'

Ctrl-C stops everything.`
}
