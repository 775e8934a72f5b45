/** The WAL stream against the real PostgreSQL: what was not confirmed comes again, in commit order. */
import t, { type Test } from 'tap'
import { sql } from 'kysely'
import { publication } from '@bifold/postgres'
import { until } from '@bifold/test'
import { eventLog } from '@bifold/test/event-log'
import { makeSlot } from './slot.ts'
import type { Committed, EventStream } from './stream.ts'
import { streamWal } from './wal.ts'

async function walOf (t: Test) {
  const log = await eventLog(t)
  const { name: slot, close } = await makeSlot(log.db, log.settings.POSTGRES_URL)
  await close()
  const open = async () => {
    const transactions: Committed[] = []
    const wal = await streamWal({ url: log.settings.POSTGRES_URL, slot, publication }, { committed: each => { transactions.push(each) }, reached () {} })
    return { wal, transactions }
  }
  return { ...log, open }
}

const versions = (transactions: readonly Committed[]) => transactions.map(({ rows }) => rows.map(row => Number(row['version'])))

// A slot is free again a moment after its reader has gone.
const reopen = async (open: () => Promise<{ wal: EventStream, transactions: Committed[] }>) => await until(async () => await open(), 'the slot to be free')

t.test('what was not confirmed comes again; what was confirmed does not, and the next is not skipped', async t => {
  const { insert, open } = await walOf(t)
  await insert(1, 2)
  await insert(3)
  await insert(4)
  const first = await open()
  await until(async () => first.transactions.length === 3)
  t.same(versions(first.transactions), [[1, 2], [3], [4]])
  first.wal.confirm(first.transactions[0]!.end)
  await first.wal.close()

  const second = await reopen(open)
  await until(async () => second.transactions.length === 2)
  t.same(versions(second.transactions), [[3], [4]], 'received is not confirmed')
  second.wal.confirm(second.transactions[1]!.end)
  await second.wal.close()

  await insert(5)
  const third = await reopen(open)
  await until(async () => third.transactions.length > 0)
  t.same(versions(third.transactions), [[5]])
  await third.wal.close()
})

t.test('transactions come in the order of their commits, not of their beginnings', async t => {
  const { db, insert, open } = await walOf(t)
  const late = await db.startTransaction().execute()
  await sql`insert into events (aggregate, aggregate_id, version, type, value, request_id, traceparent, time) values ('books', '019a0000-0000-7000-8000-000000000001', 1, 'BookAdded', '{}', '', '', now())`.execute(late)
  await insert(7)
  await late.commit().execute()
  const { wal, transactions } = await open()
  await until(async () => transactions.length === 2)
  t.same(versions(transactions), [[7], [1]])
  t.ok(transactions[0]!.place < transactions[1]!.place, 'and their places rise')
  await wal.close()
})

t.test('a transaction that commits right behind a confirmed one is not skipped', async t => {
  const { db, open } = await walOf(t)
  // Both have written before either commits: the second commit record begins where the first one ends.
  const begun = [await db.startTransaction().execute(), await db.startTransaction().execute()]
  for (const [n, transaction] of begun.entries()) {
    await sql`insert into events (aggregate, aggregate_id, version, type, value, request_id, traceparent, time) values ('books', ${`019a0000-0000-7000-8000-00000000000${n}`}, ${n + 1}, 'BookAdded', '{}', '', '', now())`.execute(transaction)
  }
  await Promise.all(begun.map(async transaction => await transaction.commit().execute()))
  const first = await open()
  await until(async () => first.transactions.length === 2)
  first.wal.confirm(first.transactions[0]!.end)
  await first.wal.close()
  const second = await reopen(open)
  await until(async () => second.transactions.length > 0)
  t.same(versions(second.transactions), [versions(first.transactions)[1]])
  await second.wal.close()
})
