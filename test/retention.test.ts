/** WAL is not kept for ever for a relay that is away: PostgreSQL gives its slot up, and the relay catches up from the table `events`. */
import t from 'tap'
import { sql } from 'kysely'
import type { Db } from '@bifold/postgres'
import { readTopic, servers, startApp, until } from './pipeline.ts'
import { eventLog } from './event-log.ts'

const lost = async (db: Db) => (await sql<{ status: string }>`select wal_status as status from pg_replication_slots where slot_name like 'bifold%'`.execute(db)).rows[0]!.status === 'lost'

// Each bound that an operator may set, and what makes PostgreSQL reach it; the bound of the local stack is 4 GB.
const bounds: Record<string, { setting: string, value: string, reason: RegExp, reach: (db: Db) => Promise<unknown> }> = {
  'in time': { setting: 'idle_replication_slot_timeout', value: '1s', reason: /given up the replication slot bifold_.*: idle_timeout/, reach: async db => await sql`checkpoint`.execute(db) },
  'in bytes': {
    setting: 'max_slot_wal_keep_size',
    value: '32MB',
    reason: /given up the replication slot bifold_.*: wal_removed/,
    async reach (db) {
      await sql`select pg_logical_emit_message(false, 'others', repeat('x', 1000000)) from generate_series(1, 50)`.execute(db)
      await sql`select pg_switch_wal()`.execute(db)
      await sql`checkpoint`.execute(db)
    }
  }
}

for (const [name, { setting, value, reason, reach }] of Object.entries(bounds)) {
  t.test(`a relay that was away for longer than its WAL is kept, ${name}`, async t => {
    const own = await servers(t) // the bound is the whole server's
    const { settings, db, insert } = await eventLog(t, own.dir)
    const relay = await startApp(t, 'relay', settings)
    await insert(1, 2)
    await until(async () => (await readTopic(settings)).length === 2, 'the first events')
    await relay.app.close()
    await insert(3)
    await sql`alter system set ${sql.ref(setting)} = ${sql.lit(value)}`.execute(db)
    await sql`select pg_reload_conf()`.execute(db)
    await until(async () => {
      await reach(db)
      return await lost(db)
    }, 'the slot to be lost')
    await insert(4)
    const again = await startApp(t, 'relay', settings)
    await insert(5)
    await until(async () => (await readTopic(settings)).length >= 5, 'all events')
    t.same((await readTopic(settings)).map(({ headers }) => headers['ce_version']), ['1', '2', '3', '4', '5'])
    const { checks } = await (await fetch(`${again.url}/health/ready`)).json() as { checks: Record<string, object> }
    t.match(checks['history'], { reason, sent: 2, unknown: 0 })
  })
}
