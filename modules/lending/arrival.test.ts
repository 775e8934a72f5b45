/** The read models across both domains do not depend on the order in which the events of different aggregates arrive. */
import assert from 'node:assert/strict'
import t from 'tap'
import fc from 'fast-check'
import { isDomainError, type AnyAggregate, type AnyProjection, type BoundCommand, type Change, type NoteChange, type Recorded } from '@bifold/cqrs'
import { books } from '../books/index.ts'
import { lending } from './index.ts'
import { pageMessage, type PageView } from './member-pages.ts'

const commands = { ...books.commands, ...lending.commands } as Record<string, BoundCommand>
const projection = (name: string) => lending.projections.find(({ collection }) => collection === name)!

interface Step { readonly command: string, readonly id: string, readonly input: object }

const member = (n: number) => `019a0000-0000-7000-8000-0000000000a${n}`
const book = (n: number) => `019a0000-0000-7000-8000-0000000000b${n}`
const loan = (n: number) => `019a0000-0000-7000-8000-00000000c${n.toString().padStart(3, '0')}`

const anyStep: fc.Arbitrary<Step | 'borrow'> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ command: fc.constantFrom('renewLoan', 'recallLoan', 'returnBook', 'returnBook'), id: fc.nat({ max: 5 }).map(loan), input: fc.constant({}) }) },
  { weight: 1, arbitrary: fc.record({ command: fc.constant('reviseBook'), id: fc.nat({ max: 1 }).map(book), input: fc.nat({ max: 9 }).map(n => ({ title: `Title ${n}` })) }) },
  { weight: 1, arbitrary: fc.record({ command: fc.constantFrom('suspendMember', 'reinstateMember'), id: fc.nat({ max: 1 }).map(member), input: fc.constant({}) }) },
  { weight: 1, arbitrary: fc.record({ command: fc.constant('withdrawBook'), id: fc.constant(book(1)), input: fc.constant({}) }) },
  { weight: 5, arbitrary: fc.constant('borrow' as const) }
)

/** What happens if these commands come one after the other: events in the order of their commit. */
function history (steps: readonly (Step | 'borrow')[], choices: readonly number[]): Recorded[] {
  const states = new Map<string, { version: number, state: unknown }>()
  const at = ({ aggregate, id }: { aggregate: AnyAggregate, id: string }) => states.get(id) ?? { version: 0, state: aggregate.initial }
  const out = new Set<string>()
  let loans = 0
  const start = [0, 1].flatMap((n): Step[] => [{ command: 'joinMember', id: member(n), input: { name: `Member ${n}` } }, { command: 'addBook', id: book(n), input: { title: `Book ${n}`, authors: ['Jane Austen'] } }])
  return [...start, ...steps].flatMap((step, index): Recorded[] => {
    const { command: name, id, input } = step === 'borrow'
      ? { command: 'borrowBook', id: loan(loans), input: { memberId: member(choices[index % choices.length]! % 2), bookId: book((choices[index % choices.length]! >> 1) % 2) } }
      : step
    const { aggregate, sees, decide } = commands[name]!
    const own = at({ aggregate, id }).state as never
    if (name === 'borrowBook' && out.has((input as { bookId: string }).bookId)) return [] // as the index would have it
    const seen = Object.fromEntries(Object.entries(sees?.(own, input as never, { id }) ?? {}).map(([name, reference]) => [name, { ...reference, ...at(reference) }]))
    try {
      const facts = decide(own, input as never, { id, now: new Date('2026-01-01T00:00:00Z'), seen })
      if (name === 'borrowBook') loans++
      return facts.map(fact => {
        const of = 'on' in fact ? fact.on : { aggregate, id }
        const { version, state } = at(of)
        const after = { version: version + 1, state: of.aggregate.evolve[fact.type](state, fact.data) }
        states.set(of.id, after)
        if (fact.type === 'LoanOpened') out.add((fact.data as { bookId: string }).bookId)
        if (fact.type === 'LoanReturned') out.delete((state as { bookId: string }).bookId)
        return { type: fact.type, data: fact.data, id: of.id, version: after.version, record: of.aggregate.record(after.state), time: new Date() }
      })
    } catch (error) {
      if (isDomainError(error)) return []
      throw error
    }
  })
}

/** The documents after these events, in the order of their arrival. */
function project ({ on, notes }: AnyProjection, events: readonly Recorded[]): Map<string, Record<string, any>> {
  const documents = new Map<string, Record<string, any>>()
  const noted = new Map<string, unknown>()
  for (const event of events) {
    if (on[event.type] === undefined) continue
    const seen = notes!(event as never)
    const get = (id: string) => {
      assert.ok(seen.includes(id))
      return noted.get(id) as never
    }
    for (const change of [on[event.type]!(event as never, { get })].flat()) applyTo(documents, noted, change)
  }
  return documents
}

function applyTo (documents: Map<string, Record<string, any>>, noted: Map<string, unknown>, change: Change | NoteChange): void {
  if (change.op === 'note') noted.set(change.id, change.doc)
  if (change.op === 'forget') noted.delete(change.id)
  if (change.op === 'remove') documents.delete(change.id)
  if (change.op === 'insert' || change.op === 'replace') documents.set(change.id, change.doc as unknown as Record<string, any>)
  if (change.op !== 'update') return
  const document = structuredClone(documents.get(change.id) ?? { _id: change.id })
  const at = (path: string) => {
    const names = path.split('.')
    const last = names.pop()!
    return { parent: names.reduce((parent, name) => (parent[name] ??= {}), document), last }
  }
  for (const path of change.unset) { const { parent, last } = at(path); delete parent[last] }
  for (const [path, value] of Object.entries(change.set)) { const { parent, last } = at(path); parent[last] = value }
  documents.set(change.id, document)
}

/** Those of one aggregate in their order, those of different ones as the choices have it. */
function shuffled (events: readonly Recorded[], choices: readonly number[]): Recorded[] {
  const queues = [...Map.groupBy(events, ({ id }) => id).values()].map(queue => [...queue])
  return events.map((_, index) => {
    const open = queues.filter(queue => queue.length > 0)
    return open[choices[index % choices.length]! % open.length]!.shift()!
  })
}

const answers = (events: readonly Recorded[]) => ({
  catalogue: [...project(projection('lendingCatalogue'), events).values()].sort((a, b) => a['_id'] < b['_id'] ? -1 : 1),
  pages: [...project(projection('memberPages'), events).values()].map(page => pageMessage(page as PageView)).sort((a, b) => a!.id < b!.id ? -1 : 1)
})

t.test('whatever comes first, in the end the catalogue and the pages show the same', async t => {
  let lent = 0
  await fc.assert(fc.property(fc.array(anyStep, { minLength: 4, maxLength: 16 }), fc.array(fc.nat(), { minLength: 3, maxLength: 30 }), fc.array(fc.nat(), { minLength: 3, maxLength: 30 }), (steps, choices, arrival) => {
    const events = history(steps, choices)
    const expected = answers(events)
    assert.deepEqual(answers(shuffled(events, arrival)), expected)
    // And that is the truth: what is lent is on a page, with the title of today.
    const latest = new Map(events.map(event => [event.id, event]))
    const loans = [...latest.values()].filter(({ record }) => 'bookId' in (record as object) && !('returnedOn' in (record as object)))
    const titleOf = (id: string) => (latest.get(id)!.record as { title: string }).title
    assert.deepEqual(expected.pages.flatMap(page => page!.loans.map(({ loanId, title }) => ({ loanId, title }))).sort((a, b) => a.loanId < b.loanId ? -1 : 1),
      loans.map(({ id, record }) => ({ loanId: id, title: titleOf((record as { bookId: string }).bookId) })).sort((a, b) => a.loanId < b.loanId ? -1 : 1))
    const isWithdrawn = (id: string) => events.some(event => event.id === id && event.type === 'BookWithdrawn')
    for (const n of [0, 1]) {
      const entry = expected.catalogue.find(({ _id }) => _id === book(n))
      if (isWithdrawn(book(n))) assert.equal(entry, undefined)
      else {
        const of = (event: Recorded) => (event.record as { bookId?: string }).bookId === book(n)
        assert.deepEqual([entry!['available'], entry!['loans'], entry!['title']], [!loans.some(of), events.filter(event => event.type === 'LoanOpened' && of(event)).length, titleOf(book(n))])
      }
    }
    lent += loans.length
  }), { numRuns: 500 })
  t.ok(lent > 100, `${lent} loans were open in the end`)
})
