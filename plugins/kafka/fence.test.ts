/** Of two producers with one id, the one that connected first writes nothing more; readers see where its markers end. */
import t from 'tap'
import { kafkaFor, readTopic, stores } from '@bifold/test'
import { fencedId } from './index.ts'

t.test('a producer is refused in every partition, also where it had never sent, once another with its id is connected', async t => {
  const settings = await stores(t)
  const topic = settings.EVENTS_TOPIC
  const kafka = kafkaFor(settings)
  const admin = kafka.admin()
  await admin.connect()
  t.teardown(async () => await admin.disconnect())
  await admin.createTopics({ topics: [{ topic, numPartitions: 3 }], waitForLeaders: true })
  const producer = async () => {
    const made = kafka.producer({ transactionalId: fencedId(topic), idempotent: true, maxInFlightRequests: 1, retry: { retries: 1 } })
    await made.connect()
    t.teardown(async () => await made.disconnect())
    return async (partition: number, key: string) => await made.send({ topic, messages: [{ partition, key, value: key }] })
  }
  const first = await producer()
  await first(0, 'first')
  const second = await producer()
  for (const partition of [0, 1, 2]) {
    await t.rejects(first(partition, 'first, too late'), /epoch/i)
    await second(partition, 'second')
  }
  t.same((await readTopic(settings)).map(({ partition, key }) => `${partition} ${key}`).sort(), ['0 first', '0 second', '1 second', '2 second'])
})
