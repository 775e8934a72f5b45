/** What became of commands in the queue is found out of order, and only then. */
import t from 'tap'
import type { Accepted } from './load.ts'
import { doneTooSoon, type Succeeded } from './queue-check.ts'

const place = (id: string, offset: number, after: number): Accepted => ({ id: `${id}.0.${offset}`, after })
const did = (id: string, version: number, aggregateId = 'book'): Succeeded => ({ id, aggregateId, version })

const row = [place('first', 10, 0), place('second', 11, 1), place('third', 12, 2)] // each sent when the one before was accepted

t.test('commands in a row are done in their order', async t => {
  t.same(doneTooSoon(row, [did('first', 2), did('second', 3), did('third', 5)]), [], 'others may come between them')
  t.same(doneTooSoon(row, [did('first', 3), did('second', 2), did('third', 4)]), ['second.0.11 made version 2 of book, and first.0.10, which had been accepted before it was sent, version 3'])
  t.same(doneTooSoon(row, [did('first', 4), did('third', 2)]), ['third.0.12 made version 2 of book, and first.0.10, which had been accepted before it was sent, version 4'], 'also if the one between was refused')
})

t.test('commands on different aggregates, and those that were sent at once, have no order', async t => {
  t.same(doneTooSoon(row, [did('first', 3), did('second', 2, 'another'), did('third', 4)]), [])
  t.same(doneTooSoon([place('first', 10, 0), place('second', 11, 0)], [did('first', 3), did('second', 2)]), [])
})

t.test('a command that was sent again with its key has its first outcome, wherever it lies', async t => {
  t.same(doneTooSoon([place('again', 11, 0), place('next', 12, 1), place('again', 13, 0)], [did('again', 2), did('next', 3)]), [], 'accepted twice')
  t.same(doneTooSoon([place('other', 11, 0), place('second try', 12, 0)], [did('other', 3), did('first try', 2), did('second try', 2)]), [], 'its first attempt, of which nobody heard, lay before the other')
  t.same(doneTooSoon(row.slice(0, 2), [did('first', 2), did('second', 2)]), [], 'one that changes nothing makes no version')
})
