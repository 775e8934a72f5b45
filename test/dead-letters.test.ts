/** `npm run dead-letters` on the whole path: an event that MongoDB refuses parks its book, the others go on, and a retry brings it up to date. */
import { execa } from 'execa'
import t from 'tap'
import { comparable, compare } from '@bifold/tools/compare'
import { modules } from '@bifold/modules'
import { pipeline, until, type Pipeline } from './pipeline.ts'

const emma = { title: 'Emma', authors: ['Jane Austen'] }

const versionOf = async ({ mongo }: Pipeline, id: string) => (await mongo.collection<{ _id: string, version: number }>('books').findOne({ _id: id }))?.version

async function deadLetters ({ settings }: Pipeline, ...args: string[]) {
  const { stdout, stderr, exitCode } = await execa('node', ['../tools/dead-letters.ts', ...args], { cwd: import.meta.dirname, env: { MONGO_URL: settings.MONGO_URL }, reject: false })
  return { text: stdout + stderr, exitCode }
}

t.test('an event that cannot be applied', async t => {
  const line = await pipeline(t)
  const letters = line.mongo.collection('deadLetters')
  const refuse = async () => await line.mongo.command({ collMod: 'books', validator: { $or: [{ price: null }, { price: { $lt: 600 } }] } })
  const allow = async () => await line.mongo.command({ collMod: 'books', validator: {} })
  await refuse()
  const add = async () => (await line.post('/books', emma)).body.id as string
  const revise = async (id: string, price: number) => await line.send('PATCH', `/books/${id}`, { price })
  const [bad, good] = [await add(), await add()]
  for (const price of [666, 667, 668]) for (const id of [bad, good]) await revise(id, id === good ? price % 600 : price)
  await until(async () => await versionOf(line, good) === 4, 'the other book to go on')
  await until(async () => await letters.countDocuments() === 3, 'the three letters')

  t.equal(await versionOf(line, bad), 1, 'it stands at what was before')
  t.equal(await line.metric('projector', 'bifold_projector_parked_aggregates'), 1)
  const ready = await fetch(`${line.apps.projector.url}/health/ready`)
  t.equal(ready.status, 200)
  t.match(await ready.json(), { checks: { 'dead letters': { parkedAggregates: 1, letters: 3 } } })

  const list = await deadLetters(line, 'list')
  t.match(list, { exitCode: 0, text: new RegExp(`books: ${bad} version 2, 2 behind, tried 3 times: Document failed validation`) })
  t.match(await deadLetters(line, 'show', bad), { exitCode: 0, text: /"BookRevised"[^]*"price\\":666/ })
  t.match(await deadLetters(line, 'show', 'nothing'), { exitCode: 2, text: /There is no dead letter nothing/ })
  t.match(await deadLetters(line, 'retry', bad), { exitCode: 1, text: /0 applied, 3 left: Document failed validation/ })
  t.match(await deadLetters(line, 'discard', String((await letters.findOne({ waits: true }))!._id)), { exitCode: 2, text: /waits behind an earlier one/ })

  await t.test('stays parked when the projector begins again', async t => {
    await line.restart('projector')
    await revise(bad, 3)
    await until(async () => await letters.countDocuments() === 4, 'the fourth letter')
    t.equal(await versionOf(line, bad), 1)
  })

  await t.test('is applied by a retry, and its aggregate goes on', async t => {
    await allow()
    t.match(await deadLetters(line, 'retry', '--all'), { exitCode: 0, text: /4 applied, 0 left/ })
    t.equal(await versionOf(line, bad), 5)
    await revise(bad, 4)
    await until(async () => await versionOf(line, bad) === 6, 'what comes after')
    const [books] = await Promise.all(comparable(modules).map(async aggregate => await compare(line.db, line.mongo as never, aggregate)))
    t.match(books, { equal: 2, missing: 0, extra: 0, differing: 0 })
    t.match(await deadLetters(line, 'list'), { exitCode: 0, text: /There are no dead letters/ })
    t.equal(await line.metric('projector', 'bifold_projector_order_breaks_total'), 0)
  })

  await t.test('is discarded, and what waits behind it is applied', async t => {
    await refuse()
    await revise(bad, 667)
    await revise(bad, 5)
    await until(async () => await letters.countDocuments() === 2, 'the two letters')
    t.match(await deadLetters(line, 'discard', bad), { exitCode: 0, text: /discarded [0-9a-f]{24}[^]*1 applied, 0 left/ })
    t.equal(await versionOf(line, bad), 8)
  })
})
