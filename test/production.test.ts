/** The roles in docs/production.md are enough: its statements are run as they stand, and each app does its work with its own. */
import { readFileSync } from 'node:fs'
import { MongoClient } from 'mongodb'
import pg from 'pg'
import t from 'tap'
import { startApp, stores, until, type Settings } from './pipeline.ts'

const book = { title: 'Emma', authors: ['Jane Austen'] }

t.test('each app does its work with the role that docs/production.md gives it, in both modes of the relay', async t => {
  const settings = await stores(t)
  const database = new URL(settings.POSTGRES_URL).pathname.slice(1)
  const admin = new pg.Client(settings.POSTGRES_URL)
  await admin.connect()
  t.teardown(async () => await admin.end())
  // Roles are the whole server's: these have names of their own, and are left to it.
  const [text, dropping] = [...readFileSync('docs/production.md', 'utf8').matchAll(/```sql\n([^]*?)```/g)].map(([, text]) => text)
  const [before, after] = text!.replaceAll('database bifold ', `database ${database} `).replaceAll('bifold_', `${database}_`).split(/^-- .*\n/m)
  const as = (role: string, other: Partial<Settings> = {}): Settings => ({ ...settings, ...other, POSTGRES_URL: Object.assign(new URL(settings.POSTGRES_URL), { username: `${database}_${role}`, password: '…' }).href })

  await admin.query(before!)
  const migrating = await startApp(t, 'gateway', as('owner'))
  await migrating.app.close()
  await admin.query(after!)
  const [gateway, relay, projector, query] = await Promise.all([startApp(t, 'gateway', as('gateway')), startApp(t, 'relay', as('relay')), startApp(t, 'projector', as('projector')), startApp(t, 'query', settings)])
  const added = async (headers = {}) => {
    const response = await fetch(`${gateway.url}/books`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(book) })
    return { ...await response.json() as { id: string }, code: response.status }
  }
  const seen = async ({ id }: { id: string }) => await until(async () => (await fetch(`${query.url}/books/${id}`)).ok, 'the book')
  const first = await added({ 'idempotency-key': 'one' })
  await seen(first)
  await until(async () => {
    const { code, id } = await added({ prefer: 'respond-async' })
    return code === 202 && await seen({ id })
  }, 'a command that waits in Kafka')
  await until(async () => (await admin.query('select from relay_checkpoints where position > 0')).rowCount === 1, 'the checkpoint to be moved')

  // Without REPLICATION, and with read models to be built.
  await relay.app.close()
  await projector.app.close()
  await admin.query(`alter role ${database}_relay noreplication; alter role ${database}_projector noreplication`)
  await admin.query(dropping!)
  const mongo = await MongoClient.connect(settings.MONGO_URL)
  await mongo.db().dropDatabase()
  await mongo.close()
  const polling = await startApp(t, 'relay', as('relay', { RELAY_MODE: 'polling' }))
  const building = await startApp(t, 'projector', as('projector'))
  await seen(first)
  await seen(await added())
  t.same([gateway, relay, projector, polling, building].flatMap(({ logs }) => logs).filter(line => JSON.stringify(line).includes('permission denied')), [], 'nothing was refused')
})
