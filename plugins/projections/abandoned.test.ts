/** A transaction that somebody left open: what it wrote waits for nobody. */
import t from 'tap'
import { connect } from '@bifold/mongo'
import { stores } from '@bifold/test'
import { inTransaction } from './transaction.ts'

const abandonedMsMax = 30_000 // MongoDB itself ends it after 60 s at the earliest

t.test('a transaction of a process that hangs is ended for one that wants to write the same; and it can do nothing more', async t => {
  const { MONGO_URL } = await stores(t)
  const [one, other] = [connect(MONGO_URL), connect(MONGO_URL)]
  t.teardown(async () => await Promise.all([one.close(), other.close()]))
  const counts = (client: typeof one) => client.db().collection<{ _id: string, by: string }>('counts')
  await counts(one).insertOne({ _id: 'a', by: 'nobody' })
  const session = other.startSession()
  session.startTransaction()
  await counts(other).updateOne({ _id: 'a' }, { $set: { by: 'other' } }, { session })
  const begun = Date.now()
  await inTransaction(one.db(), async session => await counts(one).updateOne({ _id: 'a', by: 'nobody' }, { $set: { by: 'one' } }, { session }))
  t.ok(Date.now() - begun < abandonedMsMax)
  await t.rejects(session.commitTransaction(), /has been aborted/)
  t.match(await counts(one).findOne(), { by: 'one' })
})
