/** How `npm run scale` talks to the `npm start` that runs in the same folder: by a Unix socket there. */
import { unlinkSync } from 'node:fs'
import { createServer, request, type IncomingMessage } from 'node:http'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { relative } from 'node:path'
import { appNames } from './apps.ts'
import { instancesMax, type Counts, type Fleet, type Instance } from './fleet.ts'

export type Running = readonly Pick<Instance, 'app' | 'number' | 'url'>[]

const bodyBytesMax = 1024 // four numbers

// A path of a Unix socket has some 100 characters at most.
const pathIn = (dir: string) => relative('.', `${dir}/start.sock`)

/** Takes orders for the fleet, until it is closed. */
export async function takeOrders (dir: string, fleet: Fleet): Promise<{ close (): void }> {
  const server = createServer((request, response) => {
    answer(request, fleet).then(
      body => response.setHeader('content-type', 'application/json').end(JSON.stringify(body)),
      (error: Error) => response.writeHead(400).end(error.message)
    )
  })
  server.requestTimeout = 0 // a resize takes as long as the slowest app
  if (!await isAnswering(dir)) rmIfThere(pathIn(dir)) // left by one that was killed
  server.listen(pathIn(dir))
  await once(server, 'listening')
  return {
    close () {
      server.close()
      server.closeAllConnections()
    }
  }
}

async function answer (request: IncomingMessage, fleet: Fleet): Promise<Running> {
  if (request.method === 'POST') await fleet.resize(countsIn(await body(request)))
  return fleet.instances.map(({ app, number, url }) => ({ app, number, url })).sort((a, b) => appNames.indexOf(a.app) - appNames.indexOf(b.app) || a.number - b.number)
}

/** @throws a sentence that names what is wrong */
export function countsIn (given: unknown): Partial<Counts> {
  const counts = Object.entries(given as object)
  for (const [name, count] of counts) {
    if (!(appNames as readonly string[]).includes(name)) throw new Error(`There is no app ${name}`)
    if (!Number.isInteger(count) || count < 1 || count > instancesMax) throw new Error(`There must be 1 to ${instancesMax} of ${name}`)
  }
  return Object.fromEntries(counts)
}

async function body (request: IncomingMessage): Promise<unknown> {
  let read = ''
  for await (const chunk of request) if ((read += String(chunk)).length > bodyBytesMax) throw new Error('The order is too long')
  return JSON.parse(read)
}

/**
 * Orders so many of each from the `npm start` of a folder; none, to look.
 *
 * @returns what runs then
 */
export async function order (dir: string, counts: Partial<Counts> | undefined): Promise<Running> {
  const asking = request({ socketPath: pathIn(dir), path: '/', method: counts === undefined ? 'GET' : 'POST' })
  asking.end(counts === undefined ? undefined : JSON.stringify(counts))
  const [response] = await once(asking, 'response').catch((cause: Error) => { throw new Error(`No npm start runs in ${dir}: ${cause.message}`, { cause }) }) as [IncomingMessage]
  const told = await text(response)
  if (response.statusCode !== 200) throw new Error(told)
  return JSON.parse(told) as Running
}

async function isAnswering (dir: string): Promise<boolean> {
  return await order(dir, undefined).then(() => true, () => false)
}

function rmIfThere (path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
