/** Coalesced reads, without a database: who shares a fetch, and who costs none. */
import { setImmediate, setTimeout } from 'node:timers/promises'
import t from 'tap'
import { AnswerTooLarge } from '@bifold/cqrs'
import { coalesce, type Fetch } from './coalesce.ts'
import type { Call } from './call.ts'

const call = (over: Partial<Call> = {}): Call => ({ deadline: Date.now() + 10_000, tokens: [], connection: () => undefined, gone: () => false, onEnd () {}, ...over })

/** A fetch that is held until it is let go; it finds every id, with the id itself. */
function held () {
  const fetches: { ids: readonly string[], maxTimeMs: number, go (error?: Error): void }[] = []
  const fetch: Fetch<string> = async (ids, maxTimeMs) => await new Promise((resolve, reject) => {
    fetches.push({ ids, maxTimeMs, go: error => error === undefined ? resolve(new Map(ids.map(id => [id, id]))) : reject(error) })
  })
  return { fetches, ...coalesce(fetch) }
}

t.test('calls of one turn share a fetch; those that come meanwhile share the next', async t => {
  const { read, fetches, close } = held()
  t.teardown(close)
  const first = [read(['a'], call()), read(['b'], call())]
  await setImmediate()
  t.match(fetches, [{ ids: ['a', 'b'] }])
  const next = [read(['c'], call()), read(['d', 'c'], call()), read(['a'], call())]
  await setImmediate()
  t.equal(fetches.length, 1, 'one at a time')
  fetches[0]!.go()
  t.same((await Promise.all(first)).map(found => [...found.keys()]), [['a', 'b'], ['a', 'b']])
  await setImmediate()
  t.match(fetches[1], { ids: ['c', 'd', 'a'] }, 'each id once')
  fetches[1]!.go()
  await Promise.all(next)
  t.equal(fetches.length, 2)
})

t.test('who has gone or has no time left costs no fetch', async t => {
  const { read, fetches, close } = held()
  t.teardown(close)
  const work = read(['a'], call())
  await setImmediate()
  const gone = read(['b'], call({ gone: () => true }))
  const late = read(['c'], call({ deadline: Date.now() }))
  const there = read(['d'], call())
  fetches[0]!.go()
  await work
  await t.rejects(gone, { code: 'CANCELLED' })
  await t.rejects(late, { code: 'DEADLINE_EXCEEDED' })
  await setImmediate()
  t.same(fetches[1]!.ids, ['d'])
  fetches[1]!.go()
  await there
  const nobody = read(['e'], call({ gone: () => true }))
  await t.rejects(nobody, { code: 'CANCELLED' })
  t.equal(fetches.length, 2, 'nothing is fetched for nobody')
})

t.test('a deadline that passes during the fetch is heard of; the others have their answer', async t => {
  const { read, fetches, close } = held()
  t.teardown(close)
  const alive = setInterval(() => {}, 1000) // the sweep alone keeps no process running
  t.teardown(() => clearInterval(alive))
  const impatient = read(['a'], call({ deadline: Date.now() + 50 }))
  const patient = read(['a'], call())
  await t.rejects(impatient, { code: 'DEADLINE_EXCEEDED' })
  t.ok(fetches[0]!.maxTimeMs > 1000, 'MongoDB is given the time of the most patient')
  fetches[0]!.go()
  t.ok((await patient).has('a'))
})

t.test('a fetch that fails fails for those who wait for it, and for nobody else', async t => {
  const { read, fetches, close } = held()
  t.teardown(close)
  const work = read(['a'], call())
  await setImmediate()
  const next = read(['b'], call())
  fetches[0]!.go(new Error('broken'))
  await t.rejects(work, { message: 'broken' })
  await setTimeout(1)
  fetches[1]!.go()
  t.ok((await next).has('b'))
})

t.test('a fetch takes 1,000 ids, and what waits is bounded', async t => {
  const { read, fetches, close } = held()
  t.teardown(close)
  const work = [read(['a'], call())]
  await setImmediate()
  const others = Array.from({ length: 9_999 }, async (_, n) => await read([String(n)], call()))
  await t.rejects(read(['z'], call()), { code: 'OVERLOADED' })
  for (let n = 0; n < 11; n++) {
    await setImmediate()
    fetches[n]?.go()
    await setTimeout(1)
  }
  await Promise.all([...work, ...others])
  t.same(fetches.map(({ ids }) => ids.length), [1, ...Array(9).fill(1000), 999])
})

t.test('what is too much for one fetch goes in smaller ones, and only who asks for too much alone is refused', async t => {
  const fetches: number[] = []
  const room = 100 // ids that a fetch may have
  const { read, close } = coalesce<string>(async ids => {
    fetches.push(ids.length)
    if (ids.length > room) throw new AnswerTooLarge()
    return new Map(ids.map(id => [id, id]))
  })
  t.teardown(close)
  const ids = (from: number, count: number) => Array.from({ length: count }, (_, n) => String(from + n))
  const small = Array.from({ length: 500 }, async (_, n) => await read(ids(n, 1), call()))
  const [large, tooLarge] = [read(ids(500, room), call()), read(ids(600, room + 1), call())]
  await t.rejects(tooLarge, { code: 'ANSWER_TOO_LARGE' })
  t.equal((await large).size, room)
  for (const [n, found] of (await Promise.all(small)).entries()) if (!found.has(String(n))) t.fail(`${n} is missing`)
  const inVain = fetches.filter(count => count > room).length
  t.ok(inVain <= 6, `${inVain} of ${fetches.length} fetches were in vain`)
  for (let n = 0; n < 40; n++) await read(['a'], call())
  await Promise.all(ids(0, 100).map(async id => await read([id], call())))
  t.equal(fetches.at(-1), room, 'in time as many as before share a fetch')
})
