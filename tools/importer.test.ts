/** The import against a real gateway and PostgreSQL, and against gateways in trouble. */
import { createServer, type RequestListener, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startApp, stores } from '@bifold/test'
import { makeGateway } from './gateway.ts'
import { importFile, type Refusal, type Report } from './importer.ts'

/** A gateway on a database of its own. */
const startGateway = async (t: Test): Promise<string> => (await startApp(t, 'gateway', await stores(t))).url

/** A server that answers as a gateway in trouble does. */
async function startServer (t: Test, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  t.teardown(() => { server.close().closeAllConnections() })
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`
}

interface Run { url: string, text: string, linesMax?: number, signal?: AbortSignal, retryMs?: number, onProgress?: (report: Readonly<Report>) => void }

async function run (t: Test, { url, text, linesMax = 500, signal = new AbortController().signal, retryMs = 10_000, onProgress = () => {} }: Run): Promise<{ report: Report, refusals: Refusal[] }> {
  const gateway = makeGateway({ url, connections: 4, retryMs })
  t.teardown(() => gateway.close())
  const refusals: Refusal[] = []
  const file = join(t.testdir({ 'books.ndjson': text }), 'books.ndjson')
  const report = await importFile({ file, gateway, concurrency: 4, linesMax, signal, onProgress, onRefused: async refusal => { refusals.push(refusal) } })
  return { report, refusals }
}

const book = (fields: object): string => JSON.stringify({ title: 'Emma', authors: ['Jane Austen'], ...fields })

t.test('a file that is imported twice adds each of its lines once', async t => {
  const url = await startGateway(t)
  const text = [book({}), book({}), '', book({ isbn: '9780141439587' }), book({ title: 'Persuasion' })].join('\n')
  t.match((await run(t, { url, text })).report, { lines: 4, added: 4, alreadyThere: 0, refused: 0, doneBytes: Buffer.byteLength(text) })
  t.match((await run(t, { url, text })).report, { lines: 4, added: 0, alreadyThere: 4, refused: 0 })
})

t.test('a refused line is told with its number, its code and what was wrong with its fields', async t => {
  const url = await startGateway(t)
  const isbn = '9780141439587'
  await run(t, { url, text: book({ isbn }) }) // in a file of its own: batches of one file are sent side by side
  const { report, refusals } = await run(t, { url, text: [book({}), book({ pages: 0 }), '', 'no JSON', '[1]', 'x'.repeat(200_000), book({ isbn, title: 'Another' })].join('\n') })
  t.match(report, { lines: 6, added: 1, refused: 5 })
  t.match(refusals, [
    { line: 2, code: 'INVALID_INPUT', reasons: [/^\/pages /] },
    { line: 4, code: 'INVALID_JSON', reasons: [/not JSON/] },
    { line: 5, code: 'INVALID_INPUT', reasons: [/must be object/] },
    { line: 6, code: 'BODY_TOO_LARGE', reasons: [/128 KiB/] },
    { line: 7, code: 'BOOKS_ISBN_TAKEN', reasons: [/^\/isbn /] }
  ])
})

t.test('an interrupted import goes on where it stopped', async t => {
  const url = await startGateway(t)
  const text = Array.from({ length: 300 }, (_, index) => book({ title: `Volume ${index}` })).join('\n')
  const interrupt = new AbortController()
  const { report: first } = await run(t, { url, text, linesMax: 10, signal: interrupt.signal, onProgress: ({ lines }) => { if (lines >= 50) interrupt.abort() } })
  t.ok(first.added >= 50 && first.added < 300, 'some are added', { added: first.added })
  t.equal(first.added, first.lines, 'what was in flight is in the report')
  const { report: second } = await run(t, { url, text })
  t.match(second, { lines: 300, added: 300 - first.added, alreadyThere: first.added, refused: 0 })
})

t.test('what is not answered is asked again, when the gateway says, with the same keys', async t => {
  const asked: string[][] = []
  const added = (line: number) => `${JSON.stringify({ line, status: 201, id: 'x', version: 1 })}\n`
  const trouble: ((response: ServerResponse) => void)[] = [
    response => response.destroy(),
    response => response.writeHead(503, { 'retry-after': '1' }).end('{"status":503,"detail":"More requests are waiting"}'),
    response => response.writeHead(200).write(added(1), () => response.destroy()),
    response => response.writeHead(200).end(`${added(1)}{"line":2,"status":503,"code":"UNAVAILABLE"}\n${added(3)}{"status":503,"code":"STOPPING","nextLine":4}\n`),
    response => response.writeHead(200).end(added(1)), // and not a word of the last one
    response => response.writeHead(200).end(added(1))
  ]
  const url = await startServer(t, async (request, response) => {
    asked.push((await request.setEncoding('utf8').toArray()).join('').split('\n').map(line => JSON.parse(line).idempotencyKey))
    trouble[asked.length - 1]!(response)
  })
  const { report } = await run(t, { url, text: Array(5).fill(book({})).join('\n') })
  t.match(report, { lines: 5, added: 5, refused: 0, gaveUp: undefined })
  t.ok(report.durationMs >= 1000, 'it waited for the second that Retry-After asks for')
  const all = asked[0]!
  t.equal(new Set(all).size, 5)
  t.same(asked, [all, all, all, all.slice(1), [all[2], all[4]], [all[4]]])
})

t.test('a gateway that stays away is given up, and no line is called refused for it', async t => {
  const url = await startServer(t, (request, response) => { request.resume().on('end', () => response.writeHead(503).end('{"detail":"PostgreSQL does not answer"}')) })
  const { report } = await run(t, { url, text: Array(100).fill(book({})).join('\n'), retryMs: 300 })
  t.match(report, { lines: 0, added: 0, refused: 0, gaveUp: /503: PostgreSQL does not answer/ })
})

t.test('another server than the gateway is given up at once', async t => {
  const url = await startServer(t, (_, response) => { response.writeHead(404).end('<html>') })
  t.match((await run(t, { url, text: book({}) })).report, { lines: 0, gaveUp: /gateway's address/ })
})
