/** The command line of the events' versions: `npm run events -- check | lock`; the latter is a part of `npm run generate`. */
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Command } from 'commander'
import { faultsIn, locked, projectionsOf, type EventLock, type Module } from '@bifold/cqrs'
import { examplesOf } from '@bifold/cqrs/conformance'
import { reason } from '@bifold/service'

const program = new Command('events').description('Keeps the events of every version readable, by the lock of each module: modules/<name>/events.lock.json.')
program.command('check').description('fails if a schema has changed without a new version, or an old event is not read as it was').option('--modules <folder>', 'where index.ts lists them', 'modules')
  .action(async ({ modules }) => await orFail(async () => await check(modules)))
program.command('lock').description('locks the versions that are new; what is locked stays').option('--modules <folder>', 'where index.ts lists them', 'modules')
  .action(async ({ modules }) => await orFail(async () => await lock(modules)))
await program.parseAsync()

async function orFail (run: () => Promise<void>): Promise<void> {
  try {
    await run()
  } catch (error) {
    console.error(reason(error))
    process.exitCode = 1
  }
}

async function check (folder: string): Promise<void> {
  const modules = await modulesIn(folder)
  refuse(allFaults(modules, modules.map(({ name }) => lockOf(folder, name) ?? {})))
}

/** Writes nothing, unless all of it is right. */
async function lock (folder: string): Promise<void> {
  const modules = await modulesIn(folder)
  const locks = modules.map(module => locked(module, lockOf(folder, module.name) ?? {}, aggregate => examplesOf(modules, aggregate)))
  const faults = allFaults(modules, locks)
  if (faults.length > 0) return refuse(faults)
  for (const [index, { name }] of modules.entries()) {
    const text = `${JSON.stringify(locks[index], undefined, 2)}\n`
    if (text === `${JSON.stringify(lockOf(folder, name), undefined, 2)}\n`) continue
    writeFileSync(pathOf(folder, name), text)
    console.log(`Locked the new versions of the events of ${name}: ${pathOf(folder, name)}`)
  }
}

/** Old events go to the projections of all modules: a read model may be of several domains. */
function allFaults (modules: readonly Module[], locks: readonly EventLock[]): string[] {
  const projections = projectionsOf(modules)
  const types = modules.flatMap(({ aggregates }) => aggregates.flatMap(({ events }) => Object.keys(events)))
  const twice = types.filter((type, index) => types.indexOf(type) !== index).map(type => `${type} is declared twice: the name of an event tells it from all others`)
  return [...twice, ...modules.flatMap((module, index) => faultsIn(module, locks[index]!, projections))]
}

function refuse (faults: readonly string[]): void {
  for (const fault of faults) console.error(fault)
  if (faults.length > 0) process.exitCode = 1
}

async function modulesIn (folder: string): Promise<readonly Module[]> {
  return (await import(pathToFileURL(resolve(folder, 'index.ts')).href)).modules
}

function pathOf (folder: string, module: string): string {
  return `${folder}/${module}/events.lock.json`
}

function lockOf (folder: string, module: string): EventLock | undefined {
  try {
    return JSON.parse(readFileSync(pathOf(folder, module), 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new Error(`${pathOf(folder, module)} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}
