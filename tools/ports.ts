/** The ports of the apps that `npm start` runs: those in the settings, looked at before anything is started, and those of further processes. */
import { createServer } from 'node:net'
import { StackError } from '@bifold/stack'

export interface Ports { readonly GATEWAY_PORT: number, readonly QUERY_HTTP_PORT: number, readonly QUERY_GRPC_PORT: number, readonly PROJECTOR_PORT: number, readonly RELAY_PORT: number }

const portStep = 10 // from one process to the next: 3002, 3012, 3022 …
const portMax = 65_535

/** Where a client finds a port; an IPv6 address stands in brackets there. */
export const addressOf = (host: string, port: number): string => `${host.includes(':') ? `[${host}]` : host}:${port}`

/** What the process of an app with this number may listen on, the best first: nothing that the settings give to an app. */
export function ownPorts (base: number, index: number, ports: Ports): number[] {
  const taken: number[] = Object.values(ports)
  return Array.from({ length: portStep }, (_, at) => base + portStep * index + at).filter(port => port <= portMax && !taken.includes(port))
}

/** Says which setting to change while nothing has been started yet. */
export async function portsAreFree (host: string, ports: Ports): Promise<void> {
  const variables = new Map<number, string>()
  for (const [variable, port] of Object.entries(ports) as [string, number][]) {
    const other = variables.get(port)
    if (other !== undefined) throw new StackError(`${other} and ${variable} are both ${port}: set one of them to another port.`)
    variables.set(port, variable)
    await new Promise<void>((resolve, reject) => {
      const probe = createServer().once('error', ({ code }: NodeJS.ErrnoException) => reject(new StackError(code === 'EADDRINUSE' ? `Port ${port} is taken: stop what listens there, or set ${variable} to another port.` : `Port ${port} (${variable}) cannot be listened on: ${code}`)))
        .listen(port, host, () => probe.close(() => resolve()))
    })
  }
}
