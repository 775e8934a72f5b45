/** The read models of lending alone: each member and each loan as one document. */
import { lendingV1 } from '@bifold/proto'
import { insert, projection, replace } from '@bifold/cqrs'
import type { Loan, LoanEvent } from './loan.ts'
import type { Member, MemberEvent } from './member.ts'

interface View { readonly _id: string, readonly version: number }
export interface MemberView extends View, Member {}
export interface LoanView extends View, Loan {}

const whole = <Details extends object>({ id, version, record }: { id: string, version: number, record: Details }) => ({ _id: id, version, ...record })

export const members = projection<MemberEvent, MemberView>({
  collection: 'members',
  indexes: [],
  message: ({ _id: id, loans, ...member }) => lendingV1.Member.encode(lendingV1.Member.fromPartial({ id, loanIds: [...loans], ...member })).finish(),
  on: {
    MemberJoined: event => insert(whole(event)),
    MemberSuspended: event => replace(whole(event)),
    MemberReinstated: event => replace(whole(event)),
    MemberBorrowed: event => replace(whole(event)),
    MemberReturned: event => replace(whole(event))
  }
})

export const loans = projection<LoanEvent, LoanView>({
  collection: 'loans',
  // The filters of ListLoans, each in the order of the ids.
  indexes: [{ memberId: 1, _id: 1 }, { bookId: 1, _id: 1 }],
  message: view => lendingV1.Loan.encode(message(view)).finish(),
  on: {
    LoanOpened: event => insert(whole(event)),
    LoanRenewed: event => replace(whole(event)),
    LoanRecalled: event => replace(whole(event)),
    LoanReturned: event => replace(whole(event))
  }
})

/** The loan as the service answers it. */
export const message = ({ _id: id, ...loan }: LoanView): lendingV1.Loan => lendingV1.Loan.fromPartial({ id, ...loan })
