/** The commands that wait for their commit, and which of them are the next group. */
import type { Outcome } from './commit.ts'
import type { Request } from './request.ts'

export interface Waiting {
  readonly request: Request
  /** Those with the same one are in one group at a time, in their order. */
  readonly order?: object
  readonly settle: (outcome: Outcome) => void
}

export function makeWaiting ({ groupSizeMax, groupBytesMax }: { groupSizeMax: number, groupBytesMax: number }) {
  const waiting: Waiting[] = []
  const busy = new Set<object>() // the orders that have a group under way
  let bytes = 0
  const takeAll = (orders: ReadonlySet<object>) => {
    const taken = waiting.filter(({ order }) => order !== undefined && orders.has(order))
    if (taken.length > 0) waiting.splice(0, waiting.length, ...waiting.filter(one => one.order === undefined || !orders.has(one.order)))
    for (const { request } of taken) bytes -= request.bytes
    return taken
  }
  return {
    get count () { return waiting.length },
    /** Of their bodies together. */
    get bytes () { return bytes },
    push (one: Waiting) {
      waiting.push(one)
      bytes += one.request.bytes
    },
    /** Takes the next group, which may be empty; `over` is to be called when it is done, and takes those that cannot be done after it. */
    next (): { group: Waiting[], over: (reached: boolean) => Waiting[] } {
      const group: Waiting[] = []
      const heldUp: Waiting[] = []
      let groupBytes = 0
      for (const one of waiting) {
        if (one.order !== undefined && busy.has(one.order)) {
          heldUp.push(one)
          continue
        }
        if (group.length === groupSizeMax || (group.length > 0 && groupBytes + one.request.bytes > groupBytesMax)) break
        group.push(one)
        groupBytes += one.request.bytes
      }
      waiting.splice(0, group.length + heldUp.length, ...heldUp)
      bytes -= groupBytes
      const orders = new Set(group.flatMap(({ order = [] }) => order))
      for (const order of orders) busy.add(order)
      const over = (reached: boolean) => {
        for (const order of orders) busy.delete(order)
        return reached ? [] : takeAll(orders)
      }
      return { group, over }
    }
  }
}
