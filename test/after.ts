/** Takes the tests' stack down again, and its data with it. */
import { down } from '@bifold/stack'

await down({ dir: '.stack-test', purge: true })
