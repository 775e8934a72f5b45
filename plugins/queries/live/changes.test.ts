/** Changes, as the real MongoDB tells them: what a position says of its time, and how long it is looked for. */
import t from 'tap'
import { MongoClient } from 'mongodb'
import { stores } from '@bifold/test'
import { openChanges } from './changes.ts'
import { Replaced } from './snapshot.ts'
import { timeOf } from './token.ts'

t.test('a position begins with its time; one behind too much that others have written is not waited for', async t => {
  const { MONGO_URL } = await stores(t)
  const client = await MongoClient.connect(MONGO_URL)
  t.teardown(async () => await client.close())
  const db = client.db()
  const collection = db.collection<{ _id: number }>('watched')
  const changes = await openChanges(db, 'watched', { waitMs: 20 })
  t.teardown(async () => await changes.close())
  for (let n = 0; n < 3; n++) await collection.insertOne({ _id: n })
  const steps = []
  while (steps.length < 3) {
    const step = await changes.next()
    if (step !== undefined) steps.push(step)
  }
  t.same(steps.map(({ token }) => String(timeOf(token))), steps.map(({ time }) => String(time)))
  t.same(steps.map(({ token }) => token), steps.map(({ token }) => token).sort())

  const others = Array.from({ length: 20_000 }, () => ({}))
  await db.collection('others').insertMany(others)
  const late = { after: steps[2]!.token, waitMs: 20 }
  const error = await openChanges(db, 'watched', { ...late, maxTimeMS: 1 }).catch((error: unknown) => error)
  t.ok(error instanceof Replaced, String(error))
  const onTime = await openChanges(db, 'watched', late)
  t.teardown(async () => await onTime.close())
  t.equal(await onTime.next(), undefined)
})
