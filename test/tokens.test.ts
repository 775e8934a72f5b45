/** A read that sends a command's Consistency-Token back shows that command: on every way of reading, through a rebuild, and never something older. */
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { Metadata, status, type ServiceError } from '@grpc/grpc-js'
import { execa } from 'execa'
import { createClient } from '@bifold/client'
import { booksV1 } from '@bifold/proto'
import { writeToken } from '@bifold/cqrs'
import { pipeline, until, type Pipeline, type Reply } from './pipeline.ts'

const emma = { title: 'Emma', authors: ['Jane Austen'] }
const rounds = 30

const tokenOf = ({ headers }: Reply): string => headers.get('consistency-token')!

async function read (line: Pipeline, url: string, ...tokens: string[]) {
  const response = await fetch(`${line.query}${url}`, { headers: tokens.map((token): [string, string] => ['consistency-token', token]) })
  return { status: response.status, body: await response.json() as any }
}

async function ask<Response> (rpc: (request: any, metadata: Metadata, options: { deadline: number }, callback: (error: ServiceError | null, response: Response) => void) => unknown, request: object, tokens: readonly string[], deadlineMs = 5000): Promise<Response> {
  const metadata = new Metadata()
  for (const token of tokens) metadata.add('consistency-token', token)
  return await new Promise((resolve, reject) => rpc(request, metadata, { deadline: Date.now() + deadlineMs }, (error, response) => error === null ? resolve(response) : reject(error)))
}

t.test('each way of reading shows what the command did, at once', async t => {
  const line = await pipeline(t)
  const { books } = line
  for (let round = 0; round < rounds; round++) {
    const title = `Round ${round}`
    const added = await line.post('/books', { ...emma, title, language: 'eng' })
    const { id } = added.body
    t.match(await read(line, `/books/${id}`, tokenOf(added)), { status: 200, body: { title } }, 'HTTP')
    const revised = await line.send('PATCH', `/books/${id}`, { price: round + 1 })
    t.match(await ask<booksV1.Book>(books.getBook.bind(books), { id }, [tokenOf(revised)]), { price: round + 1, version: 2 }, 'gRPC')
    const again = await line.send('PATCH', `/books/${id}`, { price: round + 2 })
    t.match((await ask<booksV1.BatchGetBooksResponse>(books.batchGetBooks.bind(books), { ids: [id] }, [tokenOf(again)])).books, [{ version: 3 }], 'many at once')
    const last = await line.send('PATCH', `/books/${id}`, { language: 'ger' })
    const list = await ask<booksV1.ListBooksResponse>(books.listBooks.bind(books), booksV1.ListBooksRequest.fromPartial({ orderBy: 'id desc', pageSize: 1 }), [tokenOf(last)])
    t.match(list.books, [{ id, version: 4, language: 'ger' }], 'a list')
    const withdrawn = await line.send('DELETE', `/books/${id}`)
    t.match(await read(line, `/books/${id}`, tokenOf(withdrawn)), { status: 404, body: { code: 'BOOKS_NOT_FOUND' } }, 'withdrawn')
    t.notMatch((await read(line, '/books?orderBy=id desc&pageSize=1', tokenOf(withdrawn))).body.books?.[0]?.id, id, 'nor is it in a list')
  }
})

t.test('a command that changed nothing has a token too; several tokens are all waited for', async t => {
  const line = await pipeline(t)
  const added = await line.post('/books', emma)
  const same = await line.send('PATCH', `/books/${added.body.id}`, { title: 'Emma' })
  t.same([same.body.version, tokenOf(same)], [1, tokenOf(added)])
  t.match(await read(line, `/books/${added.body.id}`, tokenOf(same)), { status: 200 })
  const others = await Promise.all(Array.from({ length: 10 }, async (_, n) => await line.post('/books', { ...emma, title: `Other ${n}` })))
  const { body } = await read(line, '/books?pageSize=20', ...others.map(tokenOf))
  t.equal(body.books.length, 11)
  const { body: joined } = await read(line, '/books?pageSize=20', others.map(tokenOf).join(', '))
  t.equal(joined.books.length, 11, 'in one header')
  t.match(await read(line, '/books', ...Array.from({ length: 21 }, () => tokenOf(added))), { status: 400, body: { code: 'INVALID_CONSISTENCY_TOKEN', detail: /no more than 20/ } })
})

t.test('past the deadline it is DEADLINE_EXCEEDED, and 504 over HTTP, and never something older', async t => {
  const line = await pipeline(t)
  const { body: { id } } = await line.post('/books', emma)
  await until(async () => (await line.get(`/books/${id}`)).status === 200)
  await line.apps.projector.app.close()
  const revised = await line.send('PATCH', `/books/${id}`, { price: 1 })
  const begun = performance.now()
  await t.rejects(ask(line.books.getBook.bind(line.books), { id }, [tokenOf(revised)], 700), { code: status.DEADLINE_EXCEEDED })
  t.ok(performance.now() - begun < 3000)
  t.match(await line.get(`/books/${id}`), { status: 200, body: { version: 1 } }, 'without a token it is there')
  const late = read(line, `/books/${id}`, tokenOf(revised))
  const inTime = ask<booksV1.Book>(line.books.getBook.bind(line.books), { id }, [tokenOf(revised)], 25_000)
  t.match(await late, { status: 504, body: { code: 'DEADLINE_EXCEEDED' } })
  await line.restart('projector')
  t.match(await inTime, { version: 2, price: 1 }, 'who waits longer hears of it when the projector is back')
})

t.test('who watches with a token begins where the read model shows it, or is told at the deadline that it does not', async t => {
  const line = await pipeline(t)
  const client = createClient(booksV1.BookQueryServiceDefinition, `127.0.0.1:${line.settings.QUERY_GRPC_PORT}`)
  t.teardown(() => client.close())
  const snapshot = async (token: string) => {
    const told = client.after(token).watchBooks({})[Symbol.asyncIterator]()
    const { snapshotBegins, books } = (await told.next()).value as booksV1.WatchBooksResponse
    await told.return?.()
    return { snapshotBegins, books: books.map(({ title }) => title) }
  }
  for (let round = 0; round < rounds; round++) {
    const title = `Round ${round}`
    const told = await snapshot(tokenOf(await line.post('/books', { ...emma, title })))
    t.ok(told.snapshotBegins && told.books.includes(title), title)
  }
  t.match(await read(line, '/books:watch', 'x'), { status: 400, body: { code: 'INVALID_CONSISTENCY_TOKEN' } })
  await line.apps.projector.app.close()
  const late = tokenOf(await line.post('/books', { ...emma, title: 'Late' }))
  const inTime = snapshot(late) // which the client asks for again
  t.match(await read(line, '/books:watch', late), { status: 504, body: { code: 'DEADLINE_EXCEEDED' } })
  await line.restart('projector')
  t.ok((await inTime).books.includes('Late'))
})

t.test('what nobody was given is refused', async t => {
  const line = await pipeline(t)
  const added = await line.post('/books', emma)
  const place = { aggregate: 'books', id: added.body.id as string, version: 7 }
  const [body, signature] = tokenOf(added).split('.') as [string, string]
  const forged = [writeToken('another secret', place), `${body}.`, body, 'x', '.', `${body}.${signature}.${signature}`, `${body}.${signature.replace(/./, letter => letter === 'A' ? 'B' : 'A')}`, `${Buffer.from(`books/${place.id}/2`).toString('base64url')}.${signature}`, `${body}.${'\u00e9'.repeat(16)}`]
  for (const token of forged) {
    t.match(await read(line, `/books/${added.body.id}`, token), { status: 400, body: { code: 'INVALID_CONSISTENCY_TOKEN' } }, token)
    if (/^[\x20-\x7e]+$/.test(token)) await t.rejects(ask(line.books.getBook.bind(line.books), { id: added.body.id }, [token]), { code: status.INVALID_ARGUMENT }, token)
  }
  t.match(await read(line, `/books/${added.body.id}`, writeToken(line.settings.TOKEN_SECRET, { ...place, aggregate: 'nothing' })), { status: 200 }, 'what this read model does not show is not waited for')
})

t.test('through the switches of rebuilds, while others write', async t => {
  const line = await pipeline(t)
  const end = new AbortController()
  const faults: string[] = []
  let reads = 0
  const client = async (n: number) => {
    while (!end.signal.aborted) {
      const added = await line.post('/books', { ...emma, title: `Of ${n}` })
      const { id } = added.body
      const revised = await line.send('PATCH', `/books/${id}`, { price: 1 })
      const one = await read(line, `/books/${id}`, tokenOf(added), tokenOf(revised))
      const list = await read(line, '/books?orderBy=id desc&pageSize=10', tokenOf(revised))
      const withdrawn = await line.send('DELETE', `/books/${id}`)
      const gone = await read(line, `/books/${id}`, tokenOf(withdrawn))
      for (const { reply, isRight } of [
        { reply: one, isRight: one.body.version === 2 },
        { reply: list, isRight: list.body.books?.some((book: { id: string, version: number }) => book.id === id && book.version === 2) },
        { reply: gone, isRight: gone.status === 404 }
      ]) {
        if (reply.status === 504) continue // a deadline says nothing of what is shown
        reads++
        if (!isRight) faults.push(`${reply.status} ${JSON.stringify(reply.body).slice(0, 500)}`)
      }
    }
  }
  const clients = [0, 1, 2].map(client)
  const env = Object.fromEntries(Object.entries(line.settings).map(([name, value]) => [name, String(value)]))
  for (let round = 0; round < 3; round++) {
    const { exitCode, all } = await execa('node', ['../tools/rebuild.ts'], { cwd: import.meta.dirname, env, reject: false, all: true })
    t.equal(exitCode, 0, String(all))
    await setTimeout(200)
  }
  end.abort()
  await Promise.all(clients)
  t.ok(reads > 50, `${reads} reads`)
  t.same(faults.slice(0, 5), [])
})

t.test('a caller that goes away waits no longer, and the deadline of one is not that of another', async t => {
  const line = await pipeline(t)
  const { body: { id } } = await line.post('/books', emma)
  await line.apps.projector.app.close()
  const revised = await line.send('PATCH', `/books/${id}`, { price: 1 })
  const gone = new AbortController()
  const leaving = fetch(`${line.query}/books/${id}`, { headers: { 'consistency-token': tokenOf(revised) }, signal: gone.signal })
  const waiting = ask<booksV1.Book>(line.books.getBook.bind(line.books), { id }, [tokenOf(revised)], 20_000)
  const short = ask(line.books.getBook.bind(line.books), { id }, [tokenOf(revised)], 300)
  await setTimeout(100)
  gone.abort()
  await t.rejects(leaving)
  await t.rejects(short, { code: status.DEADLINE_EXCEEDED })
  await line.restart('projector')
  t.match(await waiting, { version: 2 })
})

t.test('who waits longer than a stream may be silent is told so in time', async t => {
  const line = await pipeline(t)
  const { body: { id } } = await line.post('/books', emma)
  await line.apps.projector.app.close()
  const revised = await line.send('PATCH', `/books/${id}`, { price: 1 })
  await t.rejects(ask(line.books.getBook.bind(line.books), { id }, [tokenOf(revised)], 90_000), { code: status.DEADLINE_EXCEEDED })
})
