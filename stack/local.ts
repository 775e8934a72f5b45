/** A server from local binaries: brought up until it answers, adopted if it runs already, taken down again. */
import { realpath } from 'node:fs/promises'
import { join } from 'node:path'
import pRetry, { AbortError } from 'p-retry'
import type { Folder } from './folder.ts'
import { forget, lastWords, launch, logFile, runningPid, stopPid, strayPids } from './processes.ts'
import { StackError, type Program, type Say, type Server } from './server.ts'

const startWaitMs = 90_000 // A cold start takes 3 to 8 s; after a crash a database replays its log first.
const adoptWaitMs = 20_000 // One that another `up` has just started needs some seconds; one that hangs is started again.
const pollMs = 100 // Each try opens a connection; ten in a second are cheap, and nobody waits longer than needed.
// 3: a PostgreSQL that was killed leaves children for a moment, and a broker its port; both are gone at the second try.
const startAttemptsMax = 3

/** A server that was started has ended by itself; another try may find its port or data free. */
class EndedError extends StackError {}

/** Told where a server's binaries come from, before it is started. */
export type Found = (source: string, version: string) => void

export interface Job {
  folder: Folder
  server: Server
  brokers: number
  ports: number[]
  url: string
  say: Say
  found: Found
}

/** Makes the server answer, and tells whether that took starting anything. */
export async function bringUp (job: Job): Promise<boolean> {
  const { folder, server, brokers, ports, say } = job
  if (await allRun(job)) {
    say('runs already, waiting until it answers')
    const answers = await untilReady(job, adoptWaitMs).then(() => true, () => false)
    if (answers) return false
    say('runs, but does not answer: starting it again')
    await takeDown(folder, server, brokers)
  }
  const software = await server.find(say)
  job.found(software.source, software.version)
  const programs = await software.programs(folder, ports)
  const start = () => startOnce(job, programs, software.version)
  await pRetry(start, { retries: startAttemptsMax - 1, factor: 1, minTimeout: 1000, shouldRetry: ({ error }) => error instanceof EndedError })
  return true
}

/** Stops every process of the server, also those that no pid file names. */
export async function takeDown (folder: Folder, server: Server, brokers: number): Promise<void> {
  await stopMembers(folder, server, server.members(brokers))
  await stopStrays(folder, server, brokers)
}

async function stopMembers (folder: Folder, server: Server, names: string[]): Promise<void> {
  await Promise.all(names.map(async name => {
    const pid = await runningPid(folder, name)
    if (pid) await stopPid(pid, server.stopSignal)
    await forget(folder, name)
  }))
}

/** Ends what a killed `up` left behind on the data of members that are not running as they should. */
export async function stopStrays (folder: Folder, server: Server, brokers: number): Promise<void> {
  const folders: string[] = []
  for (const name of server.members(brokers)) {
    if (await runningPid(folder, name)) continue
    for (const path of [join(folder.data, name), join(folder.spare, name)]) {
      folders.push(path, `${path}.partial`, await realpath(path).catch(() => path))
    }
  }
  const pids = folders.length > 0 ? await strayPids(folders) : []
  await Promise.all(pids.map(pid => stopPid(pid, server.stopSignal)))
}

export async function anyRuns ({ folder, server, brokers }: Pick<Job, 'folder' | 'server' | 'brokers'>): Promise<boolean> {
  const pids = await Promise.all(server.members(brokers).map(name => runningPid(folder, name)))
  return pids.some(Boolean)
}

async function allRun ({ folder, server, brokers }: Job): Promise<boolean> {
  const pids = await Promise.all(server.members(brokers).map(name => runningPid(folder, name)))
  return pids.every(Boolean)
}

async function startOnce ({ folder, server, say, ...job }: Job, programs: Program[], version: string): Promise<void> {
  say(`starting version ${version}`)
  const launched: string[] = []
  try {
    for (const program of programs) {
      if (await runningPid(folder, program.name)) continue
      await launch(folder, program)
      launched.push(program.name)
    }
    say('started, waiting until it answers')
    await untilReady({ folder, server, say, ...job }, startWaitMs)
  } catch (error) {
    await stopMembers(folder, server, launched)
    throw error
  }
}

/** Waits for an answer to a real request, but not for that of a process that has died. */
async function untilReady (job: Job, waitMs: number): Promise<void> {
  const { server, url, brokers } = job
  const ask = async () => {
    await throwIfDead(job)
    await server.prepare(url)
    await server.answers(url, brokers)
  }
  try {
    await pRetry(ask, { retries: waitMs / pollMs, factor: 1, minTimeout: pollMs, maxRetryTime: waitMs })
  } catch (error) {
    if (error instanceof StackError) throw error
    const logs = server.members(brokers).map(name => logFile(job.folder, name)).join(', ')
    throw new StackError(`${server.title} was started, but did not answer within ${waitMs / 1000} s (${(error as Error).message}): its log, ${logs}, may say why.`, { cause: error })
  }
}

async function throwIfDead ({ folder, server, brokers }: Job): Promise<void> {
  for (const name of server.members(brokers)) {
    if (await runningPid(folder, name)) continue
    const words = await lastWords(folder, name)
    if (/No space left/i.test(words)) {
      throw new AbortError(new StackError(`The disk is full: ${server.title} could not write to ${folder.data}. Free some space, then try again.`))
    }
    throw new AbortError(new EndedError(`${server.title} ended as soon as it was started. ${logFile(folder, name)} says:\n${words}`))
  }
}
