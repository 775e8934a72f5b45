/** WAL is not kept for ever for a relay that is away: PostgreSQL gives its slot up, and the relay catches up from the table `events`. */
import t from 'tap'
import { sql } from 'kysely'
import { readTopic, servers, startApp, until } from './pipeline.ts'
import { eventLog } from './event-log.ts'

t.test('a relay that was away for longer than its WAL is kept', async t => {
  const own = await servers(t) // the bound is the whole server's
  const { settings, db, insert } = await eventLog(t, own.dir)
  const relay = await startApp(t, 'relay', settings)
  await insert(1, 2)
  await until(async () => (await readTopic(settings)).length === 2, 'the first events')
  await relay.app.close()
  await insert(3)
  // By time instead of max_slot_wal_keep_size: the outcome is the same, and nobody has to write 4 GB.
  await sql`alter system set idle_replication_slot_timeout = '1s'`.execute(db)
  await sql`select pg_reload_conf()`.execute(db)
  await until(async () => {
    await sql`checkpoint`.execute(db)
    return (await sql<{ status: string }>`select wal_status as status from pg_replication_slots where slot_name like 'bifold%'`.execute(db)).rows[0]!.status === 'lost'
  }, 'the slot to be lost')
  await insert(4)
  const again = await startApp(t, 'relay', settings)
  await insert(5)
  await until(async () => (await readTopic(settings)).length >= 5, 'all events')
  t.same((await readTopic(settings)).map(({ headers }) => headers['ce_version']), ['1', '2', '3', '4', '5'])
  const { checks } = await (await fetch(`${again.url}/health/ready`)).json() as { checks: Record<string, object> }
  t.match(checks['history'], { reason: /PostgreSQL has given up the replication slot bifold_.*: idle_timeout/, sent: 2, unknown: 0 })
})
