/** What callers may ask of a list: filters, orders and masks; whatever they write, it is a filter or a sentence that says what is wrong. */
import fc from 'fast-check'
import t from 'tap'
import { filters, masks, orders, type Where } from './index.ts'

interface Book { readonly _id: string, readonly title: string, readonly authors: string[], readonly publishedYear?: number, readonly language?: string }

const filter = filters<Book>({ title: 'text', authors: 'list of texts', published_year: 'number', language: 'text' })
const wrong = (text: string) => (filter.message as (text: string) => string)(text)

t.test('a filter becomes one of MongoDB', async t => {
  const means: Record<string, Where> = {
    '': {},
    '  ': {},
    'title = Emma': { title: { $eq: 'Emma' } },
    'title="Sense and \\"Sensibility\\""': { title: { $eq: 'Sense and "Sensibility"' } },
    "title = 'O\\'Brien AND (x)'": { title: { $eq: "O'Brien AND (x)" } },
    'language != en-US': { language: { $ne: 'en-US' } },
    'authors:"Jane Austen"': { authors: { $eq: 'Jane Austen' } },
    'published_year:*': { publishedYear: { $ne: null } },
    'title = "*"': { title: { $eq: '*' } },
    'published_year >= -500 AND published_year<0': { $and: [{ publishedYear: { $gte: -500 } }, { publishedYear: { $lt: 0 } }] },
    'title < b AND language = eng OR language = ger': { $and: [{ title: { $lt: 'b' } }, { $or: [{ language: { $eq: 'eng' } }, { language: { $eq: 'ger' } }] }] },
    '(title > b AND language = eng) OR published_year <= 1.5': { $or: [{ $and: [{ title: { $gt: 'b' } }, { language: { $eq: 'eng' } }] }, { publishedYear: { $lte: 1.5 } }] },
    'NOT (title = a OR title = b)': { $nor: [{ $or: [{ title: { $eq: 'a' } }, { title: { $eq: 'b' } }] }] }
  }
  for (const [text, where] of Object.entries(means)) {
    t.same(filter.where(text), where, text)
    t.ok(filter.validate(text), text)
  }
})

t.test('what is wrong with a filter is said, and where', async t => {
  const says: Record<string, string> = {
    'colour = red': 'at character 1: colour is not a field to filter by; these are: title, authors, published_year, language',
    'title = Emma AND constructor = x': 'at character 18: constructor is not a field to filter by; these are: title, authors, published_year, language',
    title: 'at character 6: expected one of = != < <= > >= : after title, found the end',
    'title Emma': 'at character 7: expected one of = != < <= > >= : after title, found Emma',
    'title =': 'at character 8: expected a value after =, found the end',
    'title = (': 'at character 9: expected a value after =, found (',
    'title = a b': 'at character 11: expected AND, OR or the end, found b',
    'title = a and title = b': 'at character 11: expected AND, OR or the end, found and',
    'title = a AND': 'at character 14: expected a field, found the end',
    '"title" = a': 'at character 1: expected a field, found "title"',
    '(title = a': 'at character 11: expected AND, OR or ), found the end',
    'title = a)': 'at character 10: expected AND, OR or the end, found )',
    'title = "a': 'at character 9: the quote is not closed',
    'title ! a': 'at character 7: expected != or NOT, found !',
    'title:a': 'at character 6: title is no list: use = instead of : (or title:* for what has one)',
    'authors = a': 'at character 9: authors is a list: use : instead of =',
    'published_year > soon': 'at character 18: published_year takes a number, not soon',
    'published_year = "1815"': 'at character 18: published_year takes a number, not "1815"',
    [`title ${'x'.repeat(99)}`]: `at character 7: expected one of = != < <= > >= : after title, found ${'x'.repeat(40)}…`,
    [`${'('.repeat(30)}title = a`]: 'at character 22: more than 20 parentheses and NOTs within each other'
  }
  for (const [text, message] of Object.entries(says)) {
    t.equal(wrong(text), message)
    t.notOk(filter.validate(text), text)
  }
})

// Words that mean something, in any order, and whatever else people type.
const word = fc.oneof(fc.constantFrom('title', 'authors', 'published_year', 'language', 'AND', 'OR', 'NOT', '(', ')', '=', '!=', '<', '<=', '>', '>=', ':', '*', '"', "'", '\\', '-1', '1815', '"Jane Austen"', '$where', '{"$ne":1}', '__proto__'), fc.string({ unit: 'binary' }))
const texts = fc.array(word, { maxLength: 12 }).chain(words => fc.constantFrom(words.join(' '), words.join('')))

t.test('whatever is written is a filter or a sentence, and a filter has only our operators, our fields and plain values', async t => {
  let [good, bad] = [0, 0]
  const operators = new Set(['$and', '$or', '$nor'])
  const plain = (where: Where): boolean => Object.entries(where).every(([key, value]) => operators.has(key)
    ? (value as Where[]).every(plain)
    : ['title', 'authors', 'publishedYear', 'language'].includes(key) && Object.entries(value as object).every(([operator, value]) =>
        /^\$(eq|ne|lt|lte|gt|gte)$/.test(operator) && (typeof value === 'string' || typeof value === 'number' || value === null)))
  fc.assert(fc.property(texts, text => {
    if (!filter.validate(text)) {
      bad++
      return /^at character \d+: ./.test(wrong(text))
    }
    good++
    return plain(filter.where(text))
  }), { numRuns: 20_000, seed: 7 })
  t.ok(good > 100 && bad > 100, `${good} filters, ${bad} sentences`)
})

t.test('any text can be a value, in quotes', async t => {
  const quoted = (text: string) => `"${text.replaceAll(/["\\]/g, '\\$&')}"`
  fc.assert(fc.property(fc.string({ unit: 'binary' }), text => t.strictSame(filter.where(`title = ${quoted(text)}`), { title: { $eq: text } })), { numRuns: 500, seed: 7 })
})

t.test('the orders of a list are those of its indexes, either way', async t => {
  const order = orders<Book>(['id', 'title', 'language'], [{ title: 1, _id: 1 }, { authors: 1, _id: 1 }, { language: 1, title: -1, _id: 1 }])
  t.same(order.offered, ['id', 'id desc', 'title', 'title desc', 'language, title desc', 'language desc, title'])
  t.strictSame(order.order(''), { _id: 1 })
  t.strictSame(order.order(' title   desc '), { title: -1, _id: -1 })
  t.strictSame(order.order('title, id'), { title: 1, _id: 1 })
  t.strictSame(order.order('language,title desc'), { language: 1, title: -1, _id: 1 })
  for (const text of ['titel', 'title asc', 'title desc, id', 'title, language', 'authors', 'title,', ',', 'desc', 'TITLE', '__proto__', 'toString']) {
    t.notOk(order.validate(text), text)
    t.throws(() => order.order(text), text)
  }
  t.equal(order.message, 'must be one of id, id desc, title, title desc, "language, title desc", "language desc, title"')
  t.throws(() => orders<Book>(['id', 'published_year'], []), { message: 'no index backs the order by published_year' }, 'an order without an index is no order')
})

t.test('a mask leaves out what is not wanted', async t => {
  const mask = masks({ create: () => ({ id: '', title: '', publishedYear: undefined as number | undefined }) })
  const emma = { id: '1', title: 'Emma', publishedYear: 1815 }
  t.match(mask.of(['title', 'published_year']), { fields: ['title', 'publishedYear'] })
  t.strictSame(mask.of(['title', 'publishedYear']).apply(emma), { id: '', title: 'Emma', publishedYear: 1815 })
  t.same(mask.of(['id']).fields, ['_id'])
  for (const all of [undefined, [], ['*'], ['title', '*']]) t.same([mask.of(all).fields, mask.of(all).apply(emma)], [undefined, emma])
  t.ok(mask.validate('published_year'))
  t.notOk(mask.validate('authors.name'))
  t.equal((mask.message as (path: string) => string)('colour'), '"colour" is not a field of the answer; these are: id, title, publishedYear')
})
