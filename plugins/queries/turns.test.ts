/** The turns of the reads of many documents: how many go on at once, how much they hold, and that nothing is kept for ever. */
import { setImmediate, setTimeout } from 'node:timers/promises'
import t from 'tap'
import type { Call } from './call.ts'
import { makeTurns } from './turns.ts'

/** A call that can be ended. */
function caller (over: Partial<Call> = {}) {
  const listeners: (() => void)[] = []
  let ended = false
  const call: Call = { deadline: Date.now() + 10_000, tokens: [], connection: () => call, gone: () => ended, onEnd: listener => listeners.push(listener), ...over }
  return { call, end () { ended = true; for (const listener of listeners) listener() } }
}

/** A read that is held until it is let go. */
function held () {
  const { promise, resolve, reject } = Promise.withResolvers<{ bytes: number }>()
  let begun = false
  return { read: async () => { begun = true; return await promise }, begun: () => begun, find: (bytes: number) => resolve({ bytes }), fail: () => reject(new Error('no')) }
}

t.test('so many reads at a time, in the order in which they came; those that fail make room too', async t => {
  const turns = makeTurns({ readsMax: 2, bytesMax: Infinity, connectionBytesMax: Infinity })
  const reads = [held(), held(), held(), held()]
  const answers = reads.map(async ({ read }) => await turns(caller().call, read))
  await setImmediate()
  t.same(reads.map(({ begun }) => begun()), [true, true, false, false])
  reads[1]!.fail()
  await t.rejects(answers[1]!, { message: 'no' })
  t.same(reads.map(({ begun }) => begun()), [true, true, true, false])
  reads[0]!.find(1)
  t.same(await answers[0], { bytes: 1 })
  t.ok(reads[3]!.begun())
  for (const { find } of reads) find(1)
  await Promise.all([answers[2], answers[3]])
})

t.test('what was found takes up room until its call has ended', async t => {
  const turns = makeTurns({ readsMax: 10, bytesMax: 100, connectionBytesMax: Infinity })
  const [slow, quick, third, fourth] = [caller(), caller(), caller(), caller()]
  await turns(slow.call, async () => ({ bytes: 60 }))
  await turns(quick.call, async () => ({ bytes: 60 }))
  const next = held()
  const waiting = turns(third.call, next.read)
  await setImmediate()
  t.notOk(next.begun(), 'there is no room')
  quick.end()
  await setImmediate()
  t.ok(next.begun(), 'one of them has been answered')
  third.end()
  await t.rejects(waiting, { code: 'CANCELLED' })
  next.find(1000) // for a call that has ended meanwhile: nobody would ever give it back
  await setImmediate()
  t.same(await turns(fourth.call, async () => ({ bytes: 1 })), { bytes: 1 })
})

t.test('a connection for which too much waits to be fetched gets no more, and holds up no other', async t => {
  const turns = makeTurns({ readsMax: 10, bytesMax: 1000, connectionBytesMax: 100 })
  const deaf = Array.from({ length: 4 }, () => caller({ connection: () => 'deaf' }))
  const [large, small, ...others] = deaf
  for (const { call } of [large!, small!]) await turns(call, async () => ({ bytes: 60 }))
  const reads = others.map(() => held())
  const answers = others.map(async ({ call }, n) => await turns(call, reads[n]!.read))
  t.same(await turns(caller({ connection: () => 'other' }).call, async () => ({ bytes: 60 })), { bytes: 60 }, 'one that came later on another has its turn')
  t.same(reads.map(({ begun }) => begun()), [false, false])
  large!.end()
  await setImmediate()
  t.same(reads.map(({ begun }) => begun()), [true, false], 'there is room, but not if it finds as much again')
  reads[0]!.find(10)
  await answers[0]
  t.same(reads.map(({ begun }) => begun()), [true, true], 'it was less')
  reads[1]!.find(60)
  await answers[1]
  const last = held()
  const waiting = turns(caller({ connection: () => 'deaf' }).call, last.read)
  await setImmediate()
  t.notOk(last.begun(), 'it was more')
  for (const { end } of [small!, ...others]) end()
  last.find(1)
  t.same(await waiting, { bytes: 1 })
})

t.test('who has gone, or has no time left, takes no turn', async t => {
  const turns = makeTurns({ readsMax: 1, bytesMax: Infinity, connectionBytesMax: Infinity })
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  const first = held()
  const answer = turns(caller().call, first.read)
  const [gone, late] = [caller(), caller({ deadline: Date.now() + 20 })]
  const unread = [held(), held()]
  const refused = [t.rejects(turns(gone.call, unread[0]!.read), { code: 'CANCELLED' }), t.rejects(turns(late.call, unread[1]!.read), { code: 'DEADLINE_EXCEEDED' })]
  gone.end()
  await Promise.all(refused)
  await setTimeout(20)
  first.find(1)
  await answer
  await setImmediate()
  t.same(unread.map(({ begun }) => begun()), [false, false])
  t.same(await turns(caller().call, async () => ({ bytes: 1 })), { bytes: 1 }, 'the turn is free again')
})
