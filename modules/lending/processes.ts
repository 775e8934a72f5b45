/** What happens by itself: a book that is withdrawn while it is lent is recalled. */
import { ask, holder, process } from '@bifold/cqrs'
import type { BookEvent } from '../books/shared.ts'
import { recallLoan } from './commands.ts'
import { loan } from './loan.ts'

/** Who borrows sees the book, and so locks it: a loan was opened before the book was withdrawn, and is found here, or never. */
export const recalls = process<BookEvent>({
  name: 'recall-withdrawn',
  on: { BookWithdrawn: ({ id }) => [ask(recallLoan, holder(loan, 'loans_open_unique', id), {})] }
})
