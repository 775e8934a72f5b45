/** The servers' processes: started to outlive who starts them, found again by pid and start time, stopped within bounds. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readdir, readFile, readlink, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { execa } from 'execa'
import type { Folder } from './folder.ts'
import { StackError, type Program } from './server.ts'
import { atTerminal } from './terminal.ts'

const linux = process.platform === 'linux'
// 30 s: a clean stop takes 1 to 3 s; a database that is checkpointing on a slow disk may take more.
const stopWaitMs = 30_000
// 5 s: what the kernel needs at most to take down a killed process that is writing to disk.
const killWaitMs = 5000
const logBytesMax = 10e6 // 10 MB: weeks of a quiet stack's words, and nothing that a disk would feel.
const pollMs = 50 // Unnoticed by people, and cheap: one file is read.

/** Starts a program that outlives this one, with its output in the log, and keeps its pid. */
export async function launch (folder: Folder, program: Program): Promise<void> {
  await limitLog(folder, program.name)
  const log = await open(logFile(folder, program.name), 'a')
  try {
    const child = spawn(program.command, program.args, {
      cwd: '/', // Whoever the program runs as can enter it, and no folder is kept from being unmounted.
      detached: atTerminal(), // Ctrl-C there is not for the server.
      stdio: ['ignore', log.fd, log.fd],
      env: { ...process.env, ...program.env },
      ...program.user && { uid: program.user.uid, gid: program.user.gid }
    })
    await once(child, 'spawn')
    child.unref()
    const startedAt = await startTime(child.pid!)
    await writeFile(pidFile(folder, program.name), `${child.pid}\n${startedAt}\n`)
  } finally {
    await log.close()
  }
}

/** The pid of a member if it runs: the process must have the start time that was kept, since pids are used again. */
export async function runningPid (folder: Folder, name: string): Promise<number | undefined> {
  const text = await readFile(pidFile(folder, name), 'utf8').catch(() => '')
  const [pid, startedAt] = text.split('\n')
  if (!pid || !startedAt) return undefined
  return await startTime(Number(pid)) === startedAt ? Number(pid) : undefined
}

/**
 * Processes that work on one of these folders though no pid file names them: an `up` that was killed between
 * spawning and writing the pid file leaves one, and a second server on its data would ruin that.
 */
export async function strayPids (folders: string[]): Promise<number[]> {
  const wanted = new Set(folders.flatMap(path => [path, `-Dbifold.data=${path}`]))
  const found = []
  for (const [pid, args] of await commandLines()) {
    if (args.some(argument => wanted.has(argument)) && await startTime(pid)) found.push(pid)
  }
  return found
}

/** Asks with the signal, waits, and kills what does not listen. */
export async function stopPid (pid: number, signal: NodeJS.Signals): Promise<void> {
  const startedAt = await startTime(pid)
  if (!startedAt) return
  for (const [ask, waitMs] of [[signal, stopWaitMs], ['SIGKILL', killWaitMs]] as const) {
    send(pid, ask)
    for (const end = Date.now() + waitMs; Date.now() < end; await sleep(pollMs)) {
      if (await startTime(pid) !== startedAt) return
    }
  }
  throw new StackError(`Process ${pid} does not end, not even with SIGKILL: look at it with "ps -fp ${pid}"; a disk that hangs is the usual cause.`)
}

export async function forget (folder: Folder, name: string): Promise<void> {
  await rm(pidFile(folder, name), { force: true })
}

/** A long log makes room at the next start; one older log is kept. */
async function limitLog (folder: Folder, name: string): Promise<void> {
  const path = logFile(folder, name)
  const size = await stat(path).then(({ size }) => size, () => 0)
  if (size > logBytesMax) await rename(path, `${path}.old`)
}

export const logFile = (folder: Folder, name: string): string => join(folder.logs, `${name}.log`)
const pidFile = (folder: Folder, name: string): string => join(folder.pids, `${name}.pid`)

/** The last lines of a member's log: what it said before it died. */
export async function lastWords (folder: Folder, name: string): Promise<string> {
  const text = await readFile(logFile(folder, name), 'utf8').catch(() => '')
  return text.trimEnd().split('\n').slice(-8).join('\n') // 8 lines: an error and what led to it, on half a screen.
}

/** Whether something listens on a port, and goes on doing so. */
export async function portTaken (port: number, waitMs = 0): Promise<boolean> {
  for (const end = Date.now() + waitMs; await listens(port); await sleep(pollMs)) {
    if (Date.now() >= end) return true
  }
  return false
}

async function listens (port: number): Promise<boolean> {
  const probe = createServer()
  try {
    probe.listen({ port, host: '127.0.0.1', exclusive: true })
    await once(probe, 'listening')
    return false
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return true
    throw error
  } finally {
    probe.close()
  }
}

/** Says who listens on a port, as far as this user may know. */
export async function portHolder (port: number): Promise<string> {
  const pid = linux ? await listenerFromProc(port) : await listenerFromLsof(port)
  if (!pid) return 'another process'
  const [command] = new Map(await commandLines()).get(pid) ?? []
  return `process ${pid}${command ? ` (${command.split('/').at(-1)})` : ''}`
}

function send (pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EPERM') throw new StackError(`Process ${pid} of this stack belongs to another user: run the command as that user, or as root.`)
    if (code !== 'ESRCH') throw error
  }
}

/** When the process began, in a form that no other process of this machine ever has; undefined if it is gone. */
async function startTime (pid: number): Promise<string | undefined> {
  if (!linux) {
    const { stdout } = await execa('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { reject: false })
    return stdout && !stdout.startsWith('Z') ? stdout.replace(/^\S+\s+/, '').trim() : undefined
  }
  const line = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  // The name, in brackets, may hold spaces; after it come the state, 17 fields later the threads, and 19 the start in ticks since boot.
  const fields = line?.slice(line.lastIndexOf(')') + 2).split(' ')
  if (!fields) return undefined
  // A killed process is a zombie while its other threads still end, and until then it holds its ports and its data.
  if (fields[0] === 'Z' && Number(fields[17]) <= 1) return undefined
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8')
  return `${boot.trim()}:${fields[19]}`
}

/** Pid and arguments of every process. */
async function commandLines (): Promise<Array<[number, string[]]>> {
  if (!linux) {
    const { stdout } = await execa('ps', ['-axo', 'pid=,command='])
    return stdout.split('\n').map(line => line.trim().split(/\s+/)).map(([pid, ...args]) => [Number(pid), args])
  }
  const pids = (await readdir('/proc')).filter(name => /^\d+$/.test(name))
  return await Promise.all(pids.map(async (pid): Promise<[number, string[]]> => {
    const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    return [Number(pid), text.split('\0').filter(Boolean)]
  }))
}

async function listenerFromLsof (port: number): Promise<number | undefined> {
  const { stdout } = await execa('lsof', ['-nP', '-t', `-iTCP:${port}`, '-sTCP:LISTEN'], { reject: false })
  return Number(stdout?.split('\n')[0]) || undefined
}

/** Slim containers have neither lsof nor ss, so the kernel's own tables are read: port → inode → process. */
async function listenerFromProc (port: number): Promise<number | undefined> {
  const tables = await Promise.all(['tcp', 'tcp6'].map(name => readFile(`/proc/net/${name}`, 'utf8').catch(() => '')))
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0')
  const sockets = tables.join('\n').split('\n').map(line => line.trim().split(/\s+/))
    .filter(([, local, , state]) => local?.endsWith(`:${hexPort}`) && state === '0A') // 0A: listening
    .map(fields => `socket:[${fields[9]}]`)
  for (const pid of (await readdir('/proc')).filter(name => /^\d+$/.test(name))) {
    const files = await readdir(`/proc/${pid}/fd`).catch(() => [])
    const links = await Promise.all(files.map(file => readlink(`/proc/${pid}/fd/${file}`).catch(() => '')))
    if (links.some(link => sockets.includes(link))) return Number(pid)
  }
  return undefined
}
