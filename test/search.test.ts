/** Search through the whole pipeline: what is added is found, what is revised is found otherwise, what is withdrawn is not, and a rebuild changes nothing. */
import t from 'tap'
import { pipeline, until, type Pipeline } from './pipeline.ts'

const found = async ({ get }: Pipeline, query: string): Promise<string[]> =>
  ((await get(`/books:search?query=${encodeURIComponent(query)}&readMask=id`)).body.books ?? []).map(({ id }: { id: string }) => id)

const finds = async (line: Pipeline, query: string, ids: string[]) =>
  await until(async () => JSON.stringify(await found(line, query)) === JSON.stringify(ids), `${query} to find ${ids.length}`)

t.test('a book is found by its title and its authors as they are now', async t => {
  const line = await pipeline(t)
  const add = async (title: string, author: string): Promise<string> => (await line.post('/books', { title, authors: [author] })).body.id
  const emma = await add('Emma', 'Jane Austen')
  const black = await add('الأسود يليق بك', 'أحلام مستغانمي')
  await finds(line, 'austen emm', [emma])
  await finds(line, 'الاسود', [black])

  await line.send('PATCH', `/books/${emma}`, { title: 'Anne Elliot', price: 899 })
  await finds(line, 'anne', [emma])
  t.same(await found(line, 'emma'), [])
  await line.send('PATCH', `/books/${emma}`, { price: 799 })
  await until(async () => (await line.mongo.collection('bookSearch').findOne({ _id: emma } as never))?.['version'] === 3, 'the version to follow')
  t.same(await found(line, 'austen'), [emma], 'a revision of the price changes nothing')

  await line.send('DELETE', `/books/${black}`)
  await finds(line, 'الاسود', [])
  t.equal(await line.mongo.collection('bookSearch').countDocuments(), 1)

  // As after the loss of the read model: it is built from the events.
  const before = await line.mongo.collection('bookSearch').find().toArray()
  await line.apps.projector.app.close()
  await line.mongo.collection('bookSearch').drop()
  await line.mongo.collection('checkpoints').deleteMany({ projection: 'bookSearch' })
  await line.restart('projector')
  await finds(line, 'anne austen', [emma])
  t.same(await line.mongo.collection('bookSearch').find().toArray(), before)
})
