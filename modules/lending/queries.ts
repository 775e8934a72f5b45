/** What can be asked about members and loans. */
import { Type } from 'typebox'
import type { lendingV1 } from '@bifold/proto'
import type { Queries } from '@bifold/cqrs'
import { LoanNotFound, MemberNotFound } from './errors.ts'
import { message, type LoanView, type MemberView } from './read-models.ts'

const Id = Type.String({ format: 'uuid' })
const OptionalId = Type.Optional(Id)
const pageSizeDefault = 50 // what a screen shows

const states: Record<string, object> = {
  '': {},
  open: { returnedOn: { $exists: false } },
  returned: { returnedOn: { $exists: true } }
}

export const queries: Queries<typeof lendingV1.LendingQueryServiceDefinition, { members: MemberView, loans: LoanView }> = {
  getMember: {
    url: '/lending/members/:id',
    summary: 'Get a member',
    input: Type.Object({ id: Id }),
    point: { view: 'members', id: ({ id }) => id.toLowerCase(), missing: ({ id }) => new MemberNotFound(id) }
  },
  getLoan: {
    url: '/lending/loans/:id',
    summary: 'Get a loan',
    input: Type.Object({ id: Id }),
    point: { view: 'loans', id: ({ id }) => id.toLowerCase(), missing: ({ id }) => new LoanNotFound(id) }
  },
  listLoans: {
    url: '/lending/loans',
    summary: 'List the loans of a member or of a book, the oldest first, a page at a time',
    input: Type.Object({
      memberId: OptionalId,
      bookId: OptionalId,
      state: Type.Enum(Object.keys(states)),
      pageSize: Type.Integer({ minimum: 0, maximum: 1000 }),
      pageToken: Type.String({ maxLength: 200 }) // an id, encoded
    }),
    async answer ({ memberId, bookId, state, pageSize, pageToken }, { loans }) {
      const where = {
        ...memberId === undefined ? {} : { memberId: memberId.toLowerCase() },
        ...bookId === undefined ? {} : { bookId: bookId.toLowerCase() },
        ...states[state]
      }
      const { items, nextToken } = await loans.page({ where, order: { _id: 1 }, size: pageSize || pageSizeDefault, token: pageToken })
      return { loans: items.map(message), nextPageToken: nextToken }
    }
  }
}
