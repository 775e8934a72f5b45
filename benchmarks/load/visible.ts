/** Adds books at a rate, and watches over gRPC until each can be read: the latency from when the command was due to when it was seen. */
import { performance } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import { credentials } from '@grpc/grpc-js'
import { Pool } from 'undici'
import type { Histogram } from 'hdr-histogram-js'
import { booksV1 } from '@bifold/proto'
import { makeHistogram } from './latencies.ts'
import { openLoop } from './open-loop.ts'

export interface VisibleLoad {
  readonly gatewayUrl: string
  readonly grpc: string
  readonly bodies: readonly string[]
  readonly perSecond: number
  readonly durationMs: number
}

export interface Visible { readonly answered: Histogram, readonly visible: Histogram, readonly errors: number }

const connections = 256 // of the gateway's clients
const idsMax = 1000 // of one BatchGetBooks
const pauseMs = 1 // between two looks: the resolution
const lastMs = 30_000 // for what is still not seen when the load ends

export async function runVisible ({ gatewayUrl, grpc, bodies, perSecond, durationMs }: VisibleLoad): Promise<Visible> {
  const [answered, visible] = [makeHistogram(), makeHistogram()]
  const pool = new Pool(gatewayUrl, { connections })
  const books = new booksV1.BookQueryServiceClient(grpc, credentials.createInsecure())
  const pending = new Map<string, number>()
  let [errors, next] = [0, 0]
  const load = { over: false }
  const since = (due: number) => Math.max(1, Math.round((performance.now() - due) * 1000))

  const watch = async () => {
    const end = performance.now() + durationMs + lastMs
    while ((!load.over || pending.size > 0) && performance.now() < end) {
      if (pending.size > 0) {
        const ids = [...pending.keys()].slice(0, idsMax)
        const seen = await new Promise<booksV1.BatchGetBooksResponse>((resolve, reject) => books.batchGetBooks({ ids }, (error, response) => error === null ? resolve(response) : reject(error)))
        for (const { id } of seen.books) {
          visible.recordValue(since(pending.get(id)!))
          pending.delete(id)
        }
      }
      await setTimeout(pauseMs)
    }
    errors += pending.size
  }
  const watching = watch()
  try {
    await openLoop({
      perSecond,
      durationMs,
      async fire (due) {
        const { statusCode, body } = await pool.request({ method: 'POST', path: '/books', headers: { 'content-type': 'application/json' }, body: bodies[next++ % bodies.length]! })
        const { id } = await body.json() as { id?: string }
        if (statusCode !== 201 || id === undefined) {
          errors++
          return
        }
        answered.recordValue(since(due))
        pending.set(id, due)
      }
    })
  } finally {
    load.over = true
    await watching
    books.close()
    await pool.close()
  }
  return { answered, visible, errors }
}
