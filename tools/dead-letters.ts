/** The command line for dead letters: `npm run dead-letters -- list | show | retry | discard`. */
import { Command } from 'commander'
import { projectionsOf, type AnyProjection } from '@bifold/cqrs'
import { modules } from '@bifold/modules'
import { connect } from '@bifold/mongo'
import { discard, findLetters, heads, retry, type Letter } from '@bifold/projections/dead-letters'
import { loadConfig, reason, setting } from '@bifold/service'
import { printable } from './printable.ts'

type Db = Parameters<typeof heads>[0]

const exit = { left: 1, failed: 2 }
const shownMax = 50 // what fits on two screens
const reasonCharactersMax = 100 // a line on a screen

const program = new Command('dead-letters')
  .description('Messages that the projector could not apply. An event that cannot be applied parks its aggregate: the later ones wait behind it. Exits 1 if something is left that could not be applied, 2 if it could not work.')
program.command('list').description('what stands in front, oldest first, and how many wait behind it').action(async () => await onDb(list))
program.command('show <id>').description('one letter, or what parks an aggregate, whole').action(async id => await onDb(async db => await show(db, id)))
program.command('retry [id]').description('applies what an aggregate waits with, in order; it then goes on').option('--all', 'every parked aggregate').action(async (id, { all }) => await onDb(async db => await again(db, id, all === true)))
program.command('discard <id>').description('gives up the one letter in front; what waits behind it is then tried').action(async id => await onDb(async db => await giveUp(db, id)))
await program.parseAsync()

async function onDb (run: (db: Db) => Promise<void>): Promise<void> {
  try {
    const { MONGO_URL } = loadConfig({ MONGO_URL: setting.mongo('The read side') })
    const client = connect(MONGO_URL, 2)
    try {
      await run(client.db())
    } finally {
      await client.close()
    }
  } catch (error) {
    console.error(reason(error))
    process.exitCode = exit.failed
  }
}

async function list (db: Db): Promise<void> {
  const { all, waiting, found } = await heads(db, shownMax)
  if (all === 0) return console.log('There are no dead letters.')
  for (const letter of found) console.log(line(letter))
  if (all > found.length) console.log(`… and ${all - found.length} more`)
  console.log(`\n${all} in front, ${waiting} waiting behind them`)
}

function line ({ _id, projection, aggregateId, version, partition, offset, behind, tries, reason, time }: Letter): string {
  const what = aggregateId === null ? `unreadable at ${partition}/${offset}` : `${aggregateId} version ${version}, ${behind} behind`
  return printable(`${String(_id)}  ${time.toISOString()}  ${projection}: ${what}, tried ${tries} times: ${reason.slice(0, reasonCharactersMax)}`)
}

async function show (db: Db, id: string): Promise<void> {
  for (const { _id, key, value, ...letter } of await found(db, id)) {
    console.log(JSON.stringify({ id: String(_id), ...letter, key: key && Buffer.from(key.buffer).toString(), value: value && Buffer.from(value.buffer).toString() }, undefined, 2))
  }
}

async function again (db: Db, id: string | undefined, all: boolean): Promise<void> {
  if ((id === undefined) !== all) throw new Error('Name a letter or an aggregate, or say --all')
  let left = 0
  const ids = id === undefined ? everyHead(db) : await found(db, id)
  for await (const letter of ids) left += await tryAgain(db, letter)
  if (left > 0) process.exitCode = exit.left
}

/** Those that were there at the beginning: what fails again is not tried for ever. */
async function * everyHead (db: Db): AsyncGenerator<Letter> {
  const { found } = await heads(db, Number.MAX_SAFE_INTEGER)
  for (const letter of found) if (letter.aggregateId !== null) yield letter
}

async function tryAgain (db: Db, { aggregateId, projection, _id }: Letter): Promise<number> {
  if (aggregateId === null) throw new Error(`The dead letter ${String(_id)} is of no aggregate, since nobody can read it: it can only be discarded`)
  const outcome = await retry(db, projectionOf(projection), aggregateId)
  console.log(printable(`${projection}: ${aggregateId}: ${outcome.applied} applied, ${outcome.left} left${outcome.reason === undefined ? '' : `: ${outcome.reason}`}`))
  return outcome.left
}

async function giveUp (db: Db, id: string): Promise<void> {
  const [letter, ...others] = await found(db, id)
  if (others.length > 0) throw new Error(`Several projections have parked ${id}: name the letter, one of ${[letter!, ...others].map(({ _id }) => String(_id)).join(', ')}`)
  await discard(db, letter!)
  console.log(`${letter!.projection}: discarded ${String(letter!._id)}`)
  if (letter!.aggregateId !== null && await tryAgain(db, letter!) > 0) process.exitCode = exit.left
}

async function found (db: Db, id: string): Promise<Awaited<ReturnType<typeof findLetters>>> {
  const letters = await findLetters(db, id)
  if (letters.length === 0) throw new Error(`There is no dead letter ${id}, and no parked aggregate with this id. "npm run dead-letters -- list" shows what there is.`)
  return letters
}

function projectionOf (name: string): AnyProjection {
  const projection = projectionsOf(modules).find(({ collection }) => collection === name)
  if (projection === undefined) throw new Error(`No module has the projection ${name}: it can only be discarded`)
  return projection
}
