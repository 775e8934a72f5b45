/** Modules that get in each other's way are found at boot. */
import t from 'tap'
import { modules } from '@bifold/modules'
import { defineModules, type Module } from './index.ts'

const [books] = modules as readonly [Module]

/** A module that shares nothing with another one but what is given. */
const other = (own: Partial<Module>): Module => ({ ...books, name: 'other', aggregates: [], commands: {}, projections: [], queries: {}, ...own })

t.test('no two modules may have something of one name that is known to all', async t => {
  t.same(defineModules([books, other({})]).length, 2)
  const [book] = books.aggregates
  for (const [own, says] of [
    [{ name: 'books' }, /the module 'books'/],
    [{ aggregates: [{ ...book!, events: {} }] }, /the aggregate 'books'/],
    [{ aggregates: [{ ...book!, name: 'magazines' }] }, /the event 'BookAdded'/],
    [{ commands: { addBook: books.commands['addBook']! } }, /the command 'addBook'/],
    [{ queries: { getBook: books.queries['getBook']! } }, /the query 'getBook'/],
    [{ projections: books.projections }, /the read model 'books'/]
  ] as const) t.throws(() => defineModules([books, other(own)]), says)
})
