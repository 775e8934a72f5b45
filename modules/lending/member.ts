/** The member: who may borrow, and which loans are open. */
import { Type, type Static } from 'typebox'
import { aggregate, event, type EventOf } from '@bifold/cqrs'
import { store } from './member-store.ts'

export const loansMax = 5 // of one member at a time

const LoanOfMember = Type.Object({ loanId: Type.String({ format: 'uuid' }) }, { additionalProperties: false })
const Nothing = Type.Object({}, { additionalProperties: false })

export const MemberDetails = Type.Object({
  name: Type.String({ minLength: 1, maxLength: 200, pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f]*$', 'x-message': 'must not contain control characters' }) // the longest names of people have some 100
}, { additionalProperties: false })
export type MemberDetails = Static<typeof MemberDetails>

export const MemberJoined = event('MemberJoined', 'insert', MemberDetails)
export const MemberSuspended = event('MemberSuspended', 'update', Nothing)
export const MemberReinstated = event('MemberReinstated', 'update', Nothing)
export const MemberBorrowed = event('MemberBorrowed', 'update', LoanOfMember)
export const MemberReturned = event('MemberReturned', 'update', LoanOfMember)

export const events = { MemberJoined, MemberSuspended, MemberReinstated, MemberBorrowed, MemberReturned }

const Record = Type.Object({
  ...MemberDetails.properties,
  suspended: Type.Boolean(),
  loans: Type.Array(Type.String({ format: 'uuid' }), { description: 'The open loans, the oldest first' })
}, { additionalProperties: false })

/** A member's name is empty before they join. */
export type Member = Static<typeof Record>

export const member = aggregate<Member, typeof events, Member>({
  name: 'members',
  events,
  initial: { name: '', suspended: false, loans: [] },
  evolve: {
    MemberJoined: (state, details) => ({ ...state, ...details }),
    MemberSuspended: state => ({ ...state, suspended: true }),
    MemberReinstated: state => ({ ...state, suspended: false }),
    MemberBorrowed: (state, { loanId }) => ({ ...state, loans: [...state.loans, loanId] }),
    MemberReturned: (state, { loanId }) => ({ ...state, loans: state.loans.filter(id => id !== loanId) })
  },
  record: state => state,
  recordSchema: Record,
  store
})

export type MemberEvent = EventOf<typeof member>
