/** Bounds the queries under way in this process: one more is refused at once, and costs no memory. */
import { Overloaded } from '@bifold/cqrs'
import type { Answer } from './answer.ts'

const queriesMax = 2000 // a list takes some 30 KB while it waits: 60 MB; 200 at once are the full rate

/** Makes the bound, which all answers share that it is put on. */
export function makeBound (max = queriesMax) {
  let underWay = 0
  return (answers: Record<string, Answer>): Record<string, Answer> => Object.fromEntries(Object.entries(answers).map(([name, answer]) => [name, async (request, call) => {
    if (underWay >= max) throw new Overloaded()
    underWay++
    try {
      return await answer(request, call)
    } finally {
      underWay--
    }
  }]))
}
