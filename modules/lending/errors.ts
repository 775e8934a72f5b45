/** How a command for a member or a loan can be refused. */
import { createError } from '@bifold/cqrs'

export const MemberNotFound = createError<[id: string]>('LENDING_MEMBER_NOT_FOUND', "Member '%s' does not exist", 404)
export const MemberIsSuspended = createError<[id: string]>('LENDING_MEMBER_SUSPENDED', "Member '%s' is suspended", 409)
export const TooManyLoans = createError<[id: string]>('LENDING_TOO_MANY_LOANS', "Member '%s' has as many loans as one may have", 409)
export const BookNotFound = createError<[id: string]>('LENDING_BOOK_NOT_FOUND', "Book '%s' does not exist", 404)
export const BookIsWithdrawn = createError<[id: string]>('LENDING_BOOK_WITHDRAWN', "Book '%s' was withdrawn", 409)
export const BookIsOut = createError<[id: string]>('LENDING_BOOK_IS_OUT', "Book '%s' is lent to somebody", 409)
export const LoanNotFound = createError<[id: string]>('LENDING_LOAN_NOT_FOUND', "Loan '%s' does not exist", 404)
export const LoanIsReturned = createError<[id: string]>('LENDING_LOAN_RETURNED', "The book of loan '%s' was returned", 409)
export const LoanIsRecalled = createError<[id: string]>('LENDING_LOAN_RECALLED', "Loan '%s' is recalled", 409)
export const LoanIsOverdue = createError<[id: string, dueOn: string]>('LENDING_LOAN_OVERDUE', "Loan '%s' was due on %s", 409)
export const RenewedTooOften = createError<[id: string]>('LENDING_RENEWED_TOO_OFTEN', "Loan '%s' was renewed as often as one may be", 409)
