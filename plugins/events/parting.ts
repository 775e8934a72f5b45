/** Leaves PostgreSQL, also one that has gone without a word and answers nothing any more. */
import type { Socket } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import type { Client } from 'pg'

const partingMs = 1000 // a server that is there answers sooner

/** Ends the connection when what it is doing is done, or cuts it off where that takes too long. */
export async function part (client: Client, doing: Promise<unknown> = Promise.resolve()): Promise<void> {
  const ended = doing.catch(() => {}).then(async () => await client.end()).catch(() => {})
  await Promise.race([ended, setTimeout(partingMs)])
  ;(client as unknown as { connection: { stream: Socket } }).connection.stream.destroy()
}
