/** The lending domain: the table of contents. */
import { lendingV1 } from '@bifold/proto'
import { defineModule } from '@bifold/cqrs'
import { lendingCatalogue } from './catalogue.ts'
import * as commands from './commands.ts'
import * as errors from './errors.ts'
import { loan } from './loan.ts'
import { member } from './member.ts'
import { memberPages } from './member-pages.ts'
import { recalls } from './processes.ts'
import { queries } from './queries.ts'
import { loans, members } from './read-models.ts'

export const lending = defineModule({
  name: 'lending',
  aggregates: [member, loan],
  commands,
  projections: [members, loans, lendingCatalogue, memberPages],
  processes: [recalls],
  service: lendingV1.LendingQueryServiceDefinition,
  queries,
  errors
})
