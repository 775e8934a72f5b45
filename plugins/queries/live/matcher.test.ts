/** What a watch takes for a match is what MongoDB takes for one: else a snapshot and the changes after it would differ. */
import t from 'tap'
import fc from 'fast-check'
import { MongoClient } from 'mongodb'
import { filters, type Where } from '@bifold/cqrs'
import { stores } from '@bifold/test'
import { matcher } from './pending.ts'

interface View { readonly _id: string, readonly title: string, readonly authors: readonly string[], readonly language?: string, readonly publishedYear?: number }

// Few and near each other, so that most conditions hold for some and not for others.
const names = ['Emma', 'emma', 'Émma', '', '0', '村上 春樹', '😀', 'a.b', '$gt']
const years = [-500, 0, 1815, 1815.5, 1816]
const name = fc.constantFrom(...names)
const year = fc.constantFrom(...years)
const view = fc.record({ title: name, authors: fc.array(name, { maxLength: 3 }), language: name, publishedYear: year }, { requiredKeys: ['title', 'authors'] })

const filter = filters<View>({ title: 'text', authors: 'list of texts', language: 'text', published_year: 'number' })
const restriction = fc.oneof(
  fc.tuple(fc.constantFrom('title', 'language'), fc.constantFrom('=', '!='), name).map(([field, sign, value]) => `${field} ${sign} ${JSON.stringify(value)}`),
  fc.tuple(fc.constantFrom('=', '!=', '<', '<=', '>', '>='), year).map(([sign, value]) => `published_year ${sign} ${value}`),
  fc.oneof(name.map(value => `authors:${JSON.stringify(value)}`), fc.constantFrom('language:*', 'published_year:*', 'authors:*'))
)
const { text } = fc.letrec<{ text: string }>(tie => ({
  text: fc.oneof({ depthSize: 'small' }, restriction, tie('text').map(inner => `NOT (${inner})`), fc.tuple(tie('text'), fc.constantFrom('AND', 'OR'), tie('text')).map(([left, joined, right]) => `(${left}) ${joined} (${right})`))
}))
// As queries write conditions by hand.
const plain = fc.oneof(
  name.map((authors): Where => ({ authors })),
  fc.tuple(name, year, year).map(([language, from, to]): Where => ({ language, publishedYear: { $gte: from, $lte: to } })),
  fc.constant<Where>({})
)

t.test('a watch and MongoDB agree on what matches', async t => {
  const mongo = await MongoClient.connect((await stores(t)).MONGO_URL)
  t.teardown(async () => await mongo.close())
  const views = fc.sample(view, { numRuns: 300, seed: 1 }).map((fields, at): View => ({ _id: String(at), ...fields }))
  const collection = mongo.db().collection<View>('views')
  await collection.insertMany(views)
  let [some, matched] = [0, 0]
  await fc.assert(fc.asyncProperty(fc.oneof(plain, text.map(text => filter.where(text))), async where => {
    const matches = matcher(where)
    const found = views.filter(view => matches(view)).map(({ _id }) => _id).sort()
    if (found.length > 0 && found.length < views.length) some++
    matched += found.length
    t.same(found, (await collection.find(where as object, { projection: { _id: 1 } }).toArray()).map(({ _id }) => _id).sort(), JSON.stringify(where))
  }), { numRuns: 300 })
  t.ok(some > 100 && matched > 1000, `${some} conditions that hold for some only, ${matched} matches`)
})
