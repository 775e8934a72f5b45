/** What may not be in the events of lending, whatever crashed. */
import { loansMax } from './lending.ts'

/** As PostgreSQL has it. */
export interface Event { readonly id: string, readonly version: number, readonly type: string, readonly data: Readonly<Record<string, unknown>> }

interface Loan { readonly bookId: string, readonly memberId: string, readonly types: string[] }

const count = (types: readonly string[], type: string): number => types.filter(one => one === type).length

function loansIn (events: readonly Event[]): Map<string, Loan> {
  const loans = new Map<string, Loan>()
  for (const { id, type, data } of events) if (type === 'LoanOpened') loans.set(id, { bookId: String(data['bookId']), memberId: String(data['memberId']), types: [] })
  for (const { id, type } of events) loans.get(id)?.types.push(type)
  return loans
}

/** A withdrawn book that is out is recalled, once; who was quicker in bringing it back may have been asked for it, or not. */
export function wrongRecalls (events: readonly Event[]): string[] {
  const withdrawn = new Set(events.filter(({ type }) => type === 'BookWithdrawn').map(({ id }) => id))
  return [...loansIn(events)].flatMap(([id, { bookId, types }]) => {
    const recalls = count(types, 'LoanRecalled')
    const [least, most] = withdrawn.has(bookId) ? [types.includes('LoanReturned') ? 0 : 1, 1] : [0, 0]
    return recalls < least || recalls > most ? [`loan ${id} of ${withdrawn.has(bookId) ? 'the withdrawn' : 'the'} book ${bookId} has ${recalls} recalls`] : []
  })
}

/** The loan and its member are changed by one command: what the one has, the other has too, and once. */
export function halfDone (events: readonly Event[]): string[] {
  const ofMembers = Map.groupBy(events.filter(({ type }) => type === 'MemberBorrowed' || type === 'MemberReturned'), ({ data }) => String(data['loanId']))
  const loans = loansIn(events)
  const unknown = [...ofMembers.keys()].filter(id => !loans.has(id)).map(id => `loan ${id} is its member's, and was never opened`)
  return [...unknown, ...[...loans].flatMap(([id, { memberId, types }]) => {
    const own = (ofMembers.get(id) ?? []).filter(event => event.id === memberId).map(({ type }) => type)
    return ([['LoanOpened', 'MemberBorrowed'], ['LoanReturned', 'MemberReturned']] as const).filter(([of, and]) => count(types, of) > 1 || count(types, of) !== count(own, and))
      .map(([of, and]) => `loan ${id} has ${count(types, of)} ${of}, and its member ${count(own, and)} ${and}`)
  })]
}

/** Books that are out twice, and members who had more loans than one may have, at any time of theirs. */
export function lentTooOften (events: readonly Event[]): string[] {
  const out = Map.groupBy([...loansIn(events)].filter(([, { types }]) => !types.includes('LoanReturned')), ([, { bookId }]) => bookId)
  const has = new Map<string, number>()
  const tooMany: string[] = []
  for (const { id, version, type } of events.toSorted((a, b) => a.version - b.version)) {
    const more = type === 'MemberBorrowed' ? 1 : type === 'MemberReturned' ? -1 : 0
    const loans = (has.get(id) ?? 0) + more
    has.set(id, loans)
    if (more > 0 && loans > loansMax) tooMany.push(`member ${id} has ${loans} loans at version ${version}`)
  }
  return [...[...out].filter(([, { length }]) => length > 1).map(([id, { length }]) => `book ${id} is out ${length} times`), ...tooMany]
}
