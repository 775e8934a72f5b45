/** The domains that Bifold runs: one line each. */
import { books } from './books/index.ts'

export const modules = [books]
