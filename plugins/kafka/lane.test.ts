/** A lane: in order, one stretch after the other, and no more ahead than its bound. */
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { makeLane, type RawMessage } from './lane.ts'

const messages = (from: number, count: number, bytes = 100): RawMessage[] =>
  Array.from({ length: count }, (_, index) => ({ offset: String(from + index), timestamp: String(1000 + from + index), key: null, value: Buffer.alloc(bytes) }))

/** Who is at work on what, and is done when its gate is opened. */
function track (next: number) {
  const projected: string[][] = []
  const gates: PromiseWithResolvers<void>[] = []
  const work = async (stretch: readonly RawMessage[]) => {
    projected.push(stretch.map(({ offset }) => offset))
    gates.push(Promise.withResolvers())
    await gates.at(-1)!.promise
  }
  return { next, work, projected, gates }
}

function lane (...starts: number[]) {
  const told: string[] = []
  const held: ([number, number] | undefined)[] = []
  const tracks = starts.map(track)
  const one = makeLane({
    tracks,
    pause: () => told.push('pause'),
    resume: () => told.push('resume'),
    holding: now => held.push(now && [now.since, now.messages]),
    failed: error => told.push((error as Error).message)
  })
  return { one, told, held, tracks, ...tracks[0]! }
}

t.test('what comes in during a stretch is the next one, in order', async t => {
  const { one, projected, gates, held } = lane(5)
  t.equal(one.next, 5)
  one.add(messages(5, 2))
  one.add(messages(7, 600))
  t.equal(one.next, 607)
  t.same(projected.map(stretch => [stretch[0], stretch.length]), [['5', 2]])
  gates[0]!.resolve()
  await setImmediate()
  t.same(projected.map(stretch => [stretch[0], stretch.length]), [['5', 2], ['7', 500]], 'one at a time, of 500 at most')
  gates[1]!.resolve()
  await setImmediate()
  gates[2]!.resolve()
  await setImmediate()
  t.same(projected.flat(), messages(5, 602).map(({ offset }) => offset))
  t.same(held, [[1005, 2], [1005, 602], [1007, 600], [1507, 100], undefined], 'the oldest that is not done, and how many')
})

t.test('too much ahead pauses the partition until there is room', async t => {
  const { one, told, gates } = lane(0)
  one.add(messages(0, 1))
  one.add(messages(1, 1000, 1300))
  t.same(told, [])
  one.add(messages(1001, 1, 75_000))
  one.add(messages(1002, 1))
  t.same(told, ['pause'], 'once')
  gates[0]!.resolve()
  await setImmediate()
  t.same(told, ['pause'], 'more than half of it waits still')
  gates[1]!.resolve()
  await setImmediate()
  t.same(told, ['pause', 'resume'])
})

t.test('messages without a value take room, too, and so do headers', async t => {
  const { one, told } = lane(0)
  one.add(messages(0, 1))
  const empty = messages(1, 8000).map(message => ({ ...message, value: null }))
  one.add(empty.slice(0, 7000))
  t.same(told, [])
  one.add(empty.slice(7000))
  t.same(told, ['pause'])

  const other = lane(0)
  other.one.add(messages(0, 1))
  other.one.add(messages(1, 2).map(message => ({ ...message, bytes: 900_000 })))
  t.same(other.told, ['pause'])
})

t.test('a lane that is stopped ends after its stretch; one that fails takes nothing more', async t => {
  const { one, projected, gates } = lane(0)
  one.add(messages(0, 501))
  one.add(messages(501, 1))
  let stopped = false
  const stopping = one.stop().then(() => { stopped = true })
  await setImmediate()
  t.notOk(stopped, 'what is under way is waited for')
  gates[0]!.resolve()
  await stopping
  t.equal(projected.length, 1)
  one.add(messages(502, 1))
  t.equal(projected.length, 1)

  const failing = lane(0)
  failing.one.add(messages(0, 1))
  failing.one.add(messages(1, 1))
  failing.gates[0]!.reject(new Error('away'))
  await setImmediate()
  failing.one.add(messages(2, 1))
  t.same([failing.told, failing.projected], [['away'], [['0']]])
})

t.test('a track that is held up holds up no other, until it is too far behind', async t => {
  const { one, told, held, tracks: [fast, slow] } = lane(0, 0)
  const lengths = ({ projected }: { projected: string[][] }) => projected.map(({ length }) => length)
  one.add(messages(0, 10))
  fast!.gates[0]!.resolve()
  await setImmediate()
  one.add(messages(10, 99))
  fast!.gates[1]!.resolve()
  await setImmediate()
  one.add(messages(109, 1001, 1400))
  t.same([lengths(fast!), lengths(slow!)], [[10, 99, 500], [10]], 'below the bound it takes what there is')
  t.same([held.at(-1), told], [[1000, 1110], ['pause']], 'what the slowest has not done is at hand')
  fast!.gates[2]!.resolve()
  await setImmediate()
  t.equal(fast!.projected.length, 3, 'and beyond it waits')
  slow!.gates[0]!.resolve()
  await setImmediate()
  t.same([lengths(slow!), lengths(fast!)], [[10, 500], [10, 99, 500, 500]], 'what has come meanwhile is one stretch, and the fast one goes on')
  fast!.gates[3]!.resolve()
  await setImmediate()
  t.same([fast!.projected.length, told], [4, ['pause']])
  slow!.gates[1]!.resolve()
  await setImmediate()
  t.same([lengths(slow!), told], [[10, 500, 500], ['pause', 'resume']])
  for (const gate of [slow!.gates[2]!, fast!.gates[4]!]) gate.resolve()
  await setImmediate()
  slow!.gates[3]!.resolve()
  await setImmediate()
  t.same(slow!.projected.flat(), messages(0, 1110).map(({ offset }) => offset))
  t.same(fast!.projected.flat(), slow!.projected.flat())
})

t.test('a lane begins where the slowest is; the first track that fails ends it for all, which is told once', async t => {
  const { one, told, tracks: [ahead, behind] } = lane(7, 5)
  t.equal(one.next, 5)
  one.add(messages(5, 3))
  one.add(messages(8, 1))
  behind!.gates[0]!.reject(new Error('refused'))
  await setImmediate()
  let stopped = false
  const stopping = one.stop().then(() => { stopped = true })
  await setImmediate()
  t.notOk(stopped, 'the other is under way')
  ahead!.gates[0]!.reject(new Error('away'))
  await stopping
  t.same([told, ahead!.projected.length, behind!.projected.length], [['refused'], 1, 1])
})
