/** A client and the replica set that it knows: what it makes of one that is new under the same name. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { servers, stores, until } from '@bifold/test'
import { readEnv } from '@bifold/stack'
import { connect } from './index.ts'

t.test('a replica set that was made anew is taken for what it is', async t => {
  const { POSTGRES_URL, KAFKA_BROKERS } = await stores(t)
  const own = await servers(t, { given: { POSTGRES_URL, KAFKA_BROKERS } })
  const client = connect((await readEnv(own.dir))!.MONGO_URL, 1, 1000)
  t.teardown(async () => await client.close())
  const found = async () => (await client.db().collection('books').find().toArray()).length
  await client.db().collection('books').insertOne({})
  await own.stop('mongo') // each start is an election, and the primary of an earlier one is none to the driver
  await own.start()
  await until(async () => await found() === 1, 'the same one')
  await own.stop('mongo')
  await rm(join(own.dir, 'data/mongo'), { recursive: true })
  await own.start()
  await until(async () => await found() === 0, 'the new one')
  await client.db().collection('books').insertOne({})
  t.equal(await found(), 1)
})
