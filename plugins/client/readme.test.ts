/** The README's example is true: it is run as it stands, against the whole pipeline. */
import { readFileSync } from 'node:fs'
import { execa } from 'execa'
import t from 'tap'
import { pipeline } from '@bifold/test'

t.test('the example in the README runs', async t => {
  const line = await pipeline(t)
  const [, example] = /```ts\n([\s\S]*?)```/.exec(readFileSync('plugins/client/README.md', 'utf8'))!
  const here = example!.replace('localhost:50051', line.grpc).replace('http://localhost:3000', line.gateway)
  const { stdout } = await execa(process.execPath, ['--input-type=module-typescript', '-'], { cwd: 'plugins/client', input: here })
  t.equal(stdout, "Emma 1\nINVALID_INPUT { field: 'id', message: 'must be a valid uuid' }")
})
