/** The stack's own folder: what lies where in it, its lock, its record of what was started, and the dotenv file. */
import { createHash } from 'node:crypto'
import { renameSync, writeFileSync } from 'node:fs'
import { mkdir, readFile, realpath, rm, rmdir, statfs } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { parseEnv } from 'node:util'
import pRetry from 'p-retry'
import lockfile from 'proper-lockfile'
import { StackError, type ServerName, type StackEnv } from './server.ts'

/** The project's root: where a relative `dir` starts, whatever the working directory is. */
export const root = dirname(import.meta.dirname)

export interface Folder {
  dir: string
  /** Holds a data folder for each process. */
  data: string
  logs: string
  pids: string
  /** Where data goes that its owner cannot reach in `dir`: below a home that only root may enter. */
  spare: string
}

export interface ServerRecord {
  /** Docker, PATH, npm, Maven or pip, or the environment variable that names a server which is not the stack's own. */
  source?: string
  version?: string
  /** Kept from `up` to `down`, so that a server that died comes back where its clients look for it. */
  ports?: number[]
  url: string
}

/** What `up` started, and how. */
export interface StackRecord {
  brokers: 1 | 3
  servers: Partial<Record<ServerName, ServerRecord>>
}

// 1 GB: an empty stack takes 0.3 GB with its downloads, and the servers write logs ahead in files of up to 100 MB.
const diskFreeBytesMin = 1e9
// 10 s: how long a killed `up` keeps the next one waiting; the holder renews its lock every 5 s.
const lockStaleMs = 10_000
// 600 waits of 1 s: a first `up` on a slow line downloads 150 MB, and the second waits for it.
const lockWaits = { retries: 600, factor: 1, minTimeout: 1000 }

export async function folderAt (path: string): Promise<Folder> {
  const asked = resolve(root, path)
  const dir = await realpath(asked).catch(() => asked)
  const hash = createHash('sha256').update(dir).digest('hex').slice(0, 12)
  return {
    dir,
    data: join(dir, 'data'),
    logs: join(dir, 'logs'),
    pids: join(dir, 'pids'),
    spare: join('/var/lib/bifold', hash)
  }
}

export async function createFolder (path: string): Promise<Folder> {
  const dir = resolve(root, path)
  try {
    for (const name of ['data', 'logs', 'pids']) await mkdir(join(dir, name), { recursive: true })
  } catch (error) {
    throw new StackError(`Cannot create ${dir} (${(error as Error).message}): make it writable for this user, or name another folder with --dir.`, { cause: error })
  }
  return await folderAt(path)
}

/** Runs `work` while no other command holds the lock of this name. */
export async function locked<T> (lock: string, work: () => Promise<T>): Promise<T> {
  const take = () => lockfile.lock(lock, { lockfilePath: lock, realpath: false, stale: lockStaleMs })
  const release = await pRetry(take, {
    ...lockWaits,
    shouldRetry: ({ error }) => (error as NodeJS.ErrnoException).code === 'ELOCKED',
    onFailedAttempt: ({ attemptNumber }) => {
      if (attemptNumber === 2) console.error(`Waiting for another command that is busy here, or was killed a moment ago: ${lock}`)
    }
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ELOCKED') throw new StackError(`Another command holds ${lock} for 10 minutes: wait for it or stop it, then try again.`)
    if (error.code === 'EACCES') throw new StackError(`Cannot write to ${dirname(lock)}: it belongs to another user. Run as that user, or name another folder with --dir.`)
    throw error
  })
  try {
    return await work()
  } finally {
    await release()
  }
}

export async function checkDiskSpace (folder: Folder): Promise<void> {
  const disk = await statfs(folder.dir)
  const freeBytes = disk.bavail * disk.bsize
  if (freeBytes < diskFreeBytesMin) {
    throw new StackError(`The disk is full: ${Math.round(freeBytes / 1e6)} MB free at ${folder.dir}, and the servers need 1000 MB. Free some space, or name another folder with --dir.`)
  }
}

export async function readRecord (folder: Folder): Promise<StackRecord | undefined> {
  const text = await readFile(join(folder.dir, 'stack.json'), 'utf8').catch(() => undefined)
  return text ? JSON.parse(text) as StackRecord : undefined
}

export function writeRecord (folder: Folder, record: StackRecord): void {
  replaceFile(join(folder.dir, 'stack.json'), JSON.stringify(record, null, 2) + '\n')
}

/** The addresses of the stack in `path`, or undefined when none is up there. */
export async function readEnv (path = '.stack'): Promise<StackEnv | undefined> {
  const { dir } = await folderAt(path)
  const text = await readFile(join(dir, 'env'), 'utf8').catch(() => undefined)
  return text ? parseEnv(text) as unknown as StackEnv : undefined
}

export function writeEnv (folder: Folder, env: StackEnv): void {
  const lines = Object.entries(env).map(([name, value]) => `${name}=${value}\n`)
  replaceFile(join(folder.dir, 'env'), lines.join(''))
}

export async function removeEnv (folder: Folder): Promise<void> {
  await rm(join(folder.dir, 'env'), { force: true })
}

/** Removes what a stack made, and only that: `--dir` may name a folder with other things in it. */
export async function removeData (folder: Folder): Promise<void> {
  const own = [folder.data, folder.logs, folder.pids, folder.spare, join(folder.dir, 'stack.json'), join(folder.dir, 'env')]
  await Promise.all(own.map(path => rm(path, { recursive: true, force: true })))
}

export async function removeIfEmpty (folder: Folder): Promise<void> {
  await rmdir(folder.dir).catch(() => {})
}

/** A reader sees the old file or the new one, never half of it; synchronous, so that two writes keep their order. */
function replaceFile (path: string, text: string): void {
  writeFileSync(path + '.new', text, { mode: 0o600 }) // An address from the environment may hold a password.
  renameSync(path + '.new', path)
}
