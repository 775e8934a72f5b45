/** A topic's id, as the real Kafka tells it. */
import t from 'tap'
import { kafkaFor, stores, topicFor, until } from '@bifold/test'
import { ensureTopic, topicIdOf } from './index.ts'

t.test('a topic keeps its id, whoever asks; one that is made anew has another', async t => {
  const settings = await stores(t)
  const topic = settings.EVENTS_TOPIC
  const admin = await topicFor(t, settings)
  const id = await topicIdOf(admin, topic)
  t.match(id, /^[\w-]{22}$/, 'as Kafka\'s tools show it')
  const other = kafkaFor(settings).admin()
  await other.connect()
  t.teardown(async () => await other.disconnect())
  t.equal(await topicIdOf(other, topic), id)
  await admin.deleteTopics({ topics: [topic] })
  await until(async () => !(await admin.listTopics()).includes(topic), 'the topic to be gone')
  await t.rejects(topicIdOf(other, topic))
  await ensureTopic(admin, topic)
  const now = await topicIdOf(other, topic)
  t.match(now, /^[\w-]{22}$/)
  t.not(now, id)
})
