/** A transaction in as few round trips as can be: its writes go out together, with the commit. */
import { CompiledQuery } from 'kysely'
import { Batch } from './batch.ts'
import { over, poolOf, type Db } from './connect.ts'

/** What a transaction has come to, and the writes that make it true, in their order; they need no answer before the commit. */
export interface Decided<T> { readonly result: T, readonly writes: readonly CompiledQuery[] }

const [begin, commit, rollback] = ['begin', 'commit', 'rollback'].map(text => CompiledQuery.raw(text)) as [CompiledQuery, CompiledQuery, CompiledQuery]

/**
 * Runs `decide`, which reads and locks through `tx`, and then its writes. A transaction that reads nothing is one round
 * trip and one flush; reads cost one each, and one more for the beginning.
 *
 * @returns the result, once it is committed
 * @throws what `decide` threw, or the error of the first statement that failed; then nothing is done
 */
export async function transaction<T> (db: Db, decide: (tx: Db) => Promise<Decided<T>>): Promise<T> {
  const client = await poolOf(db).connect()
  let begun = false
  const query = async (text: string, parameters: readonly unknown[]) => {
    if (!begun) await client.query(begin.sql)
    begun = true
    return await client.query(text, [...parameters])
  }
  const tx = over({ query })
  let broken = false
  try {
    const { result, writes } = await decide(tx)
    if (begun || writes.length > 0) await new Batch(begun ? [...writes, commit] : writes).run(client)
    begun = false
    return result
  } catch (error) {
    if (begun) await client.query(rollback.sql).catch(() => { broken = true })
    throw error
  } finally {
    client.release(broken)
  }
}
