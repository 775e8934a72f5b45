/** A consumer that Kafka was away for is not waited for: the real Kafka's groups. */
import t, { type Test } from 'tap'
import type { Kafka } from 'kafkajs'
import { kafkaFor, stores, topicFor, until } from '@bifold/test'
import { connect, consume } from './index.ts'
import { leave, type Member } from './leave.ts'

const sessionMs = 60_000 // longer than a test waits

/** A member of a group that says nothing any more, once it is cut off. */
async function silent (t: Test, kafka: Kafka, groupId: string, topic: string): Promise<Member> {
  let member: Member | undefined
  // A new Kafka has no groups for some seconds.
  const consumer = kafka.consumer({ groupId, sessionTimeout: sessionMs, allowAutoTopicCreation: false, retry: { restartOnFailure: async () => member === undefined } })
  t.teardown(async () => await consumer.disconnect().catch(() => {}))
  consumer.on(consumer.events.GROUP_JOIN, ({ payload: { memberId } }) => { member = { groupId, memberId } })
  await consumer.connect()
  await consumer.subscribe({ topic })
  await consumer.run({ eachBatch: async () => {} })
  return await until(async () => member, 'it to join')
}

t.test('a member that was cut off is taken out of its group, and only that one; again is no error', async t => {
  const settings = await stores(t)
  const admin = await topicFor(t, settings)
  const topic = settings.EVENTS_TOPIC
  const membersOf = async (groupId: string) => (await admin.describeGroups([groupId])).groups[0]!.members.map(({ memberId }) => memberId)
  let reachable = true
  const cut = await silent(t, connect(settings.KAFKA_BROKERS, { warn () {}, debug () {} } as never, () => reachable), `${topic}.cut`, topic)
  const other = await silent(t, kafkaFor(settings), `${topic}.other`, topic)
  reachable = false
  t.same(await membersOf(cut.groupId), [cut.memberId], 'Kafka waits for it')
  await leave(kafkaFor(settings), [cut])
  t.same(await membersOf(cut.groupId), [])
  await leave(kafkaFor(settings), [cut])
  t.same(await membersOf(other.groupId), [other.memberId])
  reachable = true // so that the consumer can be stopped
})

t.test('who begins again after it was cut off takes the place of the one before', async t => {
  const settings = await stores(t)
  const admin = await topicFor(t, settings)
  const topic = settings.EVENTS_TOPIC
  let reachable = true
  const kafka = connect(settings.KAFKA_BROKERS, { warn () {}, debug () {} } as never, () => reachable)
  const ending = new AbortController()
  const options = { kafka, topic, groupId: topic, fetchWaitMs: 20, signal: ending.signal, open: async () => [{ next: 0, work: async () => {} }], log: { warn () {} } as never, holding () {} }
  const begin = async () => {
    const ready = Promise.withResolvers<void>()
    const consumed = consume(options, ready.resolve)
    consumed.catch(ready.reject)
    await ready.promise
    return { ended: consumed.then(() => 'ended', (error: Error) => error) }
  }
  const memberIds = async () => (await admin.describeGroups([topic])).groups[0]!.members.map(({ memberId }) => memberId)
  const first = await begin()
  const [before] = await memberIds()
  reachable = false
  t.match(await first.ended, Error)
  t.same(await memberIds(), [before], 'it could not say that it left')
  reachable = true
  const joining = begin()
  // Kafka waits for the one before for 6 s; until then the new one would only be added.
  const after = await until(async () => {
    const ids = await memberIds()
    return ids.some(id => id !== before) && ids
  }, 'the second to join')
  t.equal(after.length, 1, 'there is no other')
  t.not(after[0], before)
  const again = await joining
  ending.abort()
  t.equal(await again.ended, 'ended')
})
