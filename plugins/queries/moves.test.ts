/** The stream of moves on the real MongoDB: who waits hears of each step, also after the checkpoints were dropped. */
import t from 'tap'
import { MongoClient } from 'mongodb'
import { stores, until } from '@bifold/test'
import { makeMoves } from './moves.ts'

t.test('checkpoints that are dropped and made anew are followed on', async t => {
  const { MONGO_URL } = await stores(t)
  const client = await MongoClient.connect(MONGO_URL)
  t.teardown(async () => await client.close())
  const checkpoints = client.db().collection<{ _id: string }>('checkpoints')
  const moves = makeMoves(client.db())
  t.teardown(async () => await moves.close())
  let told = 0
  t.teardown(moves.follow('books', () => { told++ }))
  await until(async () => told === 1, 'the stream')
  await checkpoints.insertOne({ _id: 'books/topic/0' })
  await until(async () => told === 2, 'a step')
  await checkpoints.drop()
  await until(async () => told === 3, 'the stream anew')
  await checkpoints.insertOne({ _id: 'books/topic/1' })
  await until(async () => told === 4, 'a step')
})
