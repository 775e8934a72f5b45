/** The domains that Bifold runs: one line each. */
import { defineModules } from '@bifold/cqrs'
import { books } from './books/index.ts'
import { lending } from './lending/index.ts'

export const modules = defineModules([books, lending])
