/** The loan: one book that one member has for a while. */
import { Type, type Static } from 'typebox'
import { aggregate, event, type EventOf } from '@bifold/cqrs'
import { store } from './loan-store.ts'

export const renewalsMax = 2 // of one loan

const Id = Type.String({ format: 'uuid' })
const Day = Type.String({ format: 'date', description: 'A day in UTC' })

export const Opening = Type.Object({ memberId: Id, bookId: Id, openedOn: Day, dueOn: Day }, { additionalProperties: false })

export const LoanOpened = event('LoanOpened', 'insert', Opening)
export const LoanRenewed = event('LoanRenewed', 'update', Type.Object({ dueOn: Day }, { additionalProperties: false }))
export const LoanRecalled = event('LoanRecalled', 'update', Type.Object({ recalledOn: Day, dueOn: Day }, { additionalProperties: false }))
export const LoanReturned = event('LoanReturned', 'update', Type.Object({ returnedOn: Day }, { additionalProperties: false }))

export const events = { LoanOpened, LoanRenewed, LoanRecalled, LoanReturned }

const Record = Type.Object({
  ...Opening.properties,
  renewals: Type.Integer({ minimum: 0 }),
  recalledOn: Type.Optional(Day),
  returnedOn: Type.Optional(Day)
}, { additionalProperties: false })

/** A loan is nobody's before it is opened, and stays when the book is back. */
export type Loan = Static<typeof Record>

export const loan = aggregate<Loan, typeof events, Loan>({
  name: 'loans',
  events,
  initial: { memberId: '', bookId: '', openedOn: '', dueOn: '', renewals: 0 },
  evolve: {
    LoanOpened: (state, opening) => ({ ...state, ...opening }),
    LoanRenewed: (state, { dueOn }) => ({ ...state, dueOn, renewals: state.renewals + 1 }),
    LoanRecalled: (state, recall) => ({ ...state, ...recall }),
    LoanReturned: (state, { returnedOn }) => ({ ...state, returnedOn })
  },
  record: state => state,
  recordSchema: Record,
  store
})

export type LoanEvent = EventOf<typeof loan>
