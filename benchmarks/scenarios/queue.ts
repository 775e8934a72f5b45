/** Queue: how fast commands are accepted that need not be answered at once, and how fast they are done, beside those that are answered. */
import { performance } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import { connect } from '@bifold/kafka'
import { sql } from 'kysely'
import type { Stores } from '../environment.ts'
import { runHttp } from '../load/http.ts'
import type { Result } from '../load/result.ts'
import { bars, comparison, compare, latencyBars, number, ratioOf, whole, type Measured, type Scenario } from '../scenario.ts'
import { addBooks } from './writes.ts'

const connections = 256 // as for the writes
const pollMs = 20 // between two looks whether all is done, which the shortest round takes a hundred of
const workOffMs = 60_000 // the queue holds some seconds of work

const queued = addBooks.map(request => ({ ...request, headers: { ...request.headers, prefer: 'respond-async' } }))

export const queue: Scenario = {
  name: 'queue',
  async run (bench) {
    const { env } = bench
    const stores = await env.stores()
    // One gateway for all three, and the same books.
    const gateway = await env.start('gateway', stores.env)
    const backlog = await backlogOf(stores)
    const accept = async (durationMs: number) => await runHttp({ url: gateway.url, requests: queued, connections, durationMs })
    const measured = await compare([
      { name: 'answered when done', run: async durationMs => await runHttp({ url: gateway.url, requests: addBooks, connections, durationMs }) },
      { name: 'accepted with 202', run: accept, settle: backlog.workedOff },
      { name: 'accepted, and done', run: async durationMs => await backlog.done(async () => await accept(durationMs)) }
    ], bench)
    await backlog.close()
    const [direct, accepted, done] = measured as [Measured, Measured, Measured]
    return {
      scenario: 'queue',
      title: 'Queue: POST /books with Prefer: respond-async',
      sentence: `The gateway accepts ${number(whole(accepted.perSecond.median))} commands/s into the queue while it works on them, and does ${number(whole(done.perSecond.median))} from the first request until the last outcome is written: ${ratioOf(accepted, direct)} and ${ratioOf(done, direct)} of what it commits of commands that wait for their answer.`,
      goals: [{ what: 'commands of the queue that are done, as a share of those that wait for their answer', asked: 0.5, sense: 'at least', measured: ratioOf(done, direct), unit: '' }],
      tables: [comparison(measured, 'commands')],
      charts: [bars('Commands per second', 'commands/s', measured), latencyBars('Latency until a command is answered or accepted, at full load', measured)]
    }
  }
}

/** What waits in the queue: from the ends of the topic to the checkpoints in PostgreSQL. */
async function backlogOf ({ db, env, topic }: Stores) {
  const admin = connect(env['KAFKA_BROKERS']!, { warn () {}, debug () {} } as never).admin()
  await admin.connect()
  const ends = async () => (await admin.fetchTopicOffsets(`${topic}.commands`)).reduce((sum, { high }) => sum + Number(high), 0)
  const figure = async (counted: ReturnType<typeof sql<{ n: number }>>) => (await counted.execute(db)).rows[0]!.n
  const checkpoints = async () => await figure(sql`select coalesce(sum(next), 0)::int as n from command_checkpoints`)
  const succeeded = async () => await figure(sql`select count(*)::int as n from queued_commands where aggregate_id is not null`)
  const workedOff = async () => {
    const end = performance.now() + workOffMs
    while (await checkpoints() < await ends()) {
      if (performance.now() > end) throw new Error(`The queue was not worked off within ${workOffMs / 1000} s`)
      await setTimeout(pollMs)
    }
  }
  return {
    workedOff,
    /** Counts what has succeeded, over the time until nothing waits any more. */
    async done (load: () => Promise<Result>): Promise<Result> {
      const [before, accepted, begunMs] = [await succeeded(), await ends(), performance.now()]
      const result = await load()
      await workedOff()
      const seconds = (performance.now() - begunMs) / 1000
      // More than were answered in time: what is in flight when the load ends is done all the same.
      const [done, waited] = [await succeeded() - before, await ends() - accepted]
      return { ...result, perSecond: done / seconds, errors: result.errors + waited - done }
    },
    close: async () => await admin.disconnect()
  }
}
