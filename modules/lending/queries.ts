/** What can be asked about members and loans. */
import { Type } from 'typebox'
import type { lendingV1 } from '@bifold/proto'
import type { Queries } from '@bifold/cqrs'
import { entryMessage, type EntryView } from './catalogue.ts'
import { BookNotFound, LoanNotFound, MemberNotFound } from './errors.ts'
import { pageMessage, type PageView } from './member-pages.ts'
import { message, type LoanView, type MemberView } from './read-models.ts'

const Id = Type.String({ format: 'uuid' })
const OptionalId = Type.Optional(Id)
const pageSizeDefault = 50 // what a screen shows

const states: Record<string, object> = {
  '': {},
  open: { returnedOn: { $exists: false } },
  returned: { returnedOn: { $exists: true } }
}

const availabilities: Record<string, Readonly<Record<string, boolean>>> = { '': {}, available: { available: true }, lent: { available: false } }

interface Views { readonly members: MemberView, readonly loans: LoanView, readonly lendingCatalogue: EntryView, readonly memberPages: PageView }

export const queries: Queries<typeof lendingV1.LendingQueryServiceDefinition, Views> = {
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
  },
  getCatalogueEntry: {
    url: '/lending/catalogue/:id',
    summary: 'Get a book with its availability',
    input: Type.Object({ id: Id }),
    point: { view: 'lendingCatalogue', id: ({ id }) => id.toLowerCase(), missing: ({ id }) => new BookNotFound(id) }
  },
  listCatalogueEntries: {
    url: '/lending/catalogue',
    summary: 'List books with their availability, by title, a page at a time',
    input: Type.Object({
      availability: Type.Enum(Object.keys(availabilities)),
      pageSize: Type.Integer({ minimum: 0, maximum: 1000 }),
      pageToken: Type.String({ maxLength: 4096 }) // the longest title, encoded
    }),
    async answer ({ availability, pageSize, pageToken }, { lendingCatalogue }) {
      const { items, nextToken } = await lendingCatalogue.page({ where: availabilities[availability]!, order: { title: 1, _id: 1 }, size: pageSize || pageSizeDefault, token: pageToken })
      return { entries: items.map(entryMessage), nextPageToken: nextToken }
    }
  },
  getMemberPage: {
    url: '/lending/member-pages/:id',
    summary: 'Get a member with the current loans and their titles',
    input: Type.Object({ id: Id }),
    async answer ({ id }, { memberPages }) {
      const [page] = await memberPages.get([id.toLowerCase()])
      const answer = page && pageMessage(page)
      if (answer === undefined) throw new MemberNotFound(id)
      return answer
    }
  }
}
