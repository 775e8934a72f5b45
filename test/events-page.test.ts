/** The consumer in docs/events.md is true: it is run as it stands, against the whole pipeline. */
import { readFileSync } from 'node:fs'
import { execa } from 'execa'
import t from 'tap'
import { pipeline, until } from './pipeline.ts'

t.test('the consumer in docs/events.md is told each event once', async t => {
  const line = await pipeline(t)
  const { id } = (await line.post('/books', { title: 'Emma', authors: ['Jane Austen'] })).body
  await line.send('PATCH', `/books/${id}`, { price: 799 })
  await line.send('DELETE', `/books/${id}`)
  const [, example] = /```ts\n([\s\S]*?)```/.exec(readFileSync('docs/events.md', 'utf8'))!
  const here = example!.replace('localhost:9092', line.settings.KAFKA_BROKERS).replace('cqrstopic', line.settings.EVENTS_TOPIC)
  const consumer = execa(process.execPath, ['--input-type=module-typescript', '-'], { input: here, reject: false, forceKillAfterDelay: 1000 })
  t.teardown(async () => {
    consumer.kill()
    await consumer
  })
  let said = ''
  consumer.stdout.on('data', text => { said += String(text) })
  const told = () => said.split('\n').filter(line => /^(insert|update|delete) /.test(line))
  await until(async () => told().length === 3, 'the events')
  t.same(told(), ['insert Emma 1', 'update Emma 2', 'delete Emma 3'])
})
