/** The README's example is true: it is run as it stands, against a real query service. */
import { readFileSync } from 'node:fs'
import { execa } from 'execa'
import { MongoClient } from 'mongodb'
import t from 'tap'
import { startApp, stores } from '@bifold/test'

t.test('the example in the README runs', async t => {
  const settings = await stores(t)
  const mongo = await MongoClient.connect(settings.MONGO_URL)
  t.teardown(async () => await mongo.close())
  await mongo.db().collection('books').insertOne({ _id: '019a0000-0000-7000-8000-000000000001', version: 1, title: 'Emma', authors: ['Jane Austen'] } as never)
  const { app } = await startApp(t, 'query', settings)
  const [, example] = /```ts\n([\s\S]*?)```/.exec(readFileSync('plugins/client/README.md', 'utf8'))!
  const here = example!.replace('localhost:50051', `127.0.0.1:${app.getDecorator<{ port: () => number }>('grpc').port()}`)
  const { stdout } = await execa(process.execPath, ['--input-type=module-typescript', '-'], { cwd: 'plugins/client', input: here })
  t.equal(stdout, "Emma\nINVALID_INPUT { field: 'id', message: 'must be a valid uuid' }")
})
