/** How a file falls into lines, wherever its chunks end. */
import { join } from 'node:path'
import t from 'tap'
import { readLines, type Line } from './lines.ts'

async function linesOf (file: string, bytesMax = 100): Promise<Line[]> {
  const lines: Line[] = []
  for await (const line of readLines(file, bytesMax)) lines.push(line)
  return lines
}

t.test('lines are counted from 1, with blank ones, and the last needs no newline', async t => {
  const file = join(t.testdir({ file: '\ufeffone\r\n\n  two  \nthree' }), 'file')
  t.same(await linesOf(file), [
    { number: 1, endBytes: 8, content: { text: 'one' } },
    { number: 2, endBytes: 9, content: { text: '' } },
    { number: 3, endBytes: 17, content: { text: 'two' } },
    { number: 4, endBytes: 22, content: { text: 'three' } }
  ])
})

t.test('a line too long or not UTF-8 spoils none of the others', async t => {
  const file = join(t.testdir({ file: Buffer.concat([Buffer.from(`${'x'.repeat(101)}\n`), Buffer.from([0xff, 0x0a]), Buffer.from(`${'é'.repeat(50)}\n`)]) }), 'file')
  t.same((await linesOf(file)).map(({ content }) => content), [{ fault: 'too long' }, { fault: 'not UTF-8' }, { text: 'é'.repeat(50) }])
})

t.test('lines that span the chunks of the file are whole', async t => {
  // 64 KiB is what a file stream reads at once; a line of 70,003 bytes, its newline included, ends anywhere in them.
  const file = join(t.testdir({ file: `${'→'.repeat(20_000)}${'y'.repeat(10_002)}\n`.repeat(20) }), 'file')
  const lines = await linesOf(file, 100_000)
  t.equal(lines.length, 20)
  t.ok(lines.every(({ content }) => 'text' in content && content.text.length === 30_002))
  t.equal(lines.at(-1)!.endBytes, 20 * 70_003)
})

t.test('an empty file has no lines', async t => {
  t.same(await linesOf(join(t.testdir({ file: '' }), 'file')), [])
})
