/** The terms of texts in any script, and what a query makes of itself. */
import fc from 'fast-check'
import t from 'tap'
import { compiler, fieldErrors, searchable, searchFor, searchQuery } from './index.ts'

const terms = (text: string) => searchable(text, []).terms
const asked = (query: string) => (searchFor(query).where['$and'] as { terms: { $eq?: string, $regex?: string } }[]).map(({ terms }) => terms.$eq ?? terms.$regex)
/** Whether a text is found by a query, as MongoDB would find it. */
const finds = (query: string, text: string) => asked(query).every(one => terms(text).some(term => one!.startsWith('^') ? term.startsWith(one!.slice(1)) : term === one))

t.test('case, accents and ways to write a letter do not count', async t => {
  const same: [string, string][] = [
    ['ÉLÉONORE', 'eleonore'], ['Straße', 'STRASSE'], ['Œuvres Ærø Łódź', 'oeuvres aero lodz'], ['İstanbul ılık', 'istanbul ilik'], ['Việt Nam', 'viet nam'],
    ['ΟΔΥΣΣΕΎΣ', 'οδυσσευς'], ['Ёлка', 'ёлка'], ['שָׁלוֹם', 'שלום'], ['ﬁn', 'fin'], ['ＡＢＣ', 'abc'], ['ｱｲｳ', 'アイウ'],
    ['أحمد مُرَاد', 'احمد مراد'], ['إليف', 'اليف'], ['آن', 'ان'], ['ٱلرحمن', 'الرحمن'], ['رضوى', 'رضوي'], ['مدرسة', 'مدرسه'], ['محمـــد', 'محمد'], ['ﻻ', 'لا'],
    ['فارسی', 'فارسي'], ['کتاب', 'كتاب'], ['۱۹۸۴', '۱۹۸۴'], ['신경숙', '신경숙'.normalize('NFD')], ['が', 'が'.normalize('NFD')]
  ]
  for (const [one, other] of same) t.strictSame(terms(one), terms(other), `${one} and ${other}`)
  for (const [one, other] of [['किताब', 'कतब'], ['が', 'か'], ['เก่า', 'เกา']] as const) t.notSame(terms(one), terms(other), `${one} and ${other} are other words`)
})

t.test('a word with signs in it is found however it is written', async t => {
  for (const query of ["Ender's Game", 'ender game', 'Enders Game', 'ender’s game']) t.ok(finds(query, "Ender's Game"), query)
  for (const query of ['J.R.R. Tolkien', 'JRR Tolkien', 'j r r tolkien', 'J. R. R. Tolkien', 'tolkien', 'J.R.R.']) t.ok(finds(query, 'J.R.R. Tolkien'), query)
  for (const query of ['J.K. Rowling', 'jk rowling']) t.ok(finds(query, 'J. K. Rowling'), query)
  for (const query of ['ذبیح‌الله', 'ذبیح الله', 'ذبيحالله']) t.ok(finds(query, 'ذبیح‌الله منصوری'), query)
  t.ok(finds('catch 22', 'Catch-22'))
  t.ok(finds('catch22', 'Catch-22'))
  t.ok(finds('v', 'V.'))
})

t.test('a part of a word is found in scripts without spaces, from one character on', async t => {
  for (const query of ['村上 春樹', '村上春樹', '村上', '春樹', '樹', '上春']) t.ok(finds(query, '村上春樹'), query)
  for (const query of ['신경', '경숙', '숙', '경']) t.ok(finds(query, '신경숙'), query)
  for (const query of ['セーラームーン', 'ラームー', '戦士', '1']) t.ok(finds(query, '美少女戦士セーラームーン新装版 1'), query)
  t.ok(finds('1巻', 'Pandora Hearts 1巻'))
  t.ok(finds('ไทย', 'ภาษาไทย'))
  for (const query of ['村上春樹', '村上 春樹']) t.ok(finds(query, '村上 春樹'), `${query}, written with a space`)
  t.notOk(finds('上村', '村上春樹'))
})

t.test('the last word may be the beginning of one, unless a space follows', async t => {
  t.ok(finds('pride and prej', 'Pride and Prejudice'))
  t.notOk(finds('pride and prej ', 'Pride and Prejudice'))
  t.notOk(finds('prid and prejudice', 'Pride and Prejudice'))
  t.ok(finds('الأسود يل', 'الأسود يليق بك'))
})

t.test('a query needs a word', async t => {
  for (const query of ['', ' ', '…!?', '\u0301', "'"]) t.notOk(searchQuery.validate(query), JSON.stringify(query))
  for (const query of ['a', '7', '樹', 'ا']) t.ok(searchQuery.validate(query), query)
})

t.test('a query that is far too long is not even read', async t => {
  let read = 0
  const validate = compiler({ counted: { ...searchQuery, validate: query => { read++; return searchQuery.validate(query) } } })({ type: 'object', properties: { query: { type: 'string', format: 'counted', maxLength: 500 } } })
  t.notOk(validate({ query: '\u0301\u0323'.repeat(250_000) })) // to compose it takes the square of its length: a minute
  t.match(fieldErrors(validate.errors), [{ path: '/query', message: /more than 500/ }, { path: '/query', message: /more than 2000/ }])
  t.equal(read, 0)
  t.ok(validate({ query: 'Emma' }))
  t.equal(read, 1)
})

t.test('whatever is written: a document and a query are bounded, patterns have no signs, and a text is found by itself', async t => {
  const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 100 }), fc.string({ unit: fc.constantFrom(...'aé.*+?^$ \'-\u200c樹신ไالأ1(){}[]|\\/'), maxLength: 60 }))
  fc.assert(fc.property(text, text => {
    const { terms, heads } = searchable(text, [text])
    if (heads !== terms.length || new Set(terms).size !== terms.length) return false
    if (!searchQuery.validate(text)) return true
    return asked(text).length <= 32 && asked(text).every(term => /^\^?[\p{L}\p{N}\p{M}]+$/u.test(term!)) && finds(text, text)
  }), { numRuns: 20_000, seed: 7 })
  t.ok(searchable('語'.repeat(500), Array.from({ length: 100 }, (_, n) => String.fromCodePoint(0x4e00 + n).repeat(2).repeat(100))).terms.length <= 1000)
  t.ok(asked('語文'.repeat(200) + ' x'.repeat(50)).length <= 32)
})
