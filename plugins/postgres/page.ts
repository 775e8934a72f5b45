/** Bounds what is read of the event log at once by bytes as well: a thousand events have some 500 KB, or, at their largest, 700 MB. */

const pageBytesMax = 8 * 1024 * 1024 // ten times a page of ordinary events; the relay and the projector have 128 MB

/**
 * @param page a query for events, with `value` as text, in the order of `order`, which are columns of its outcome
 * @returns the same query, which ends after the event that reaches the bound
 */
export const bounded = (page: string, order: string): string => `
  select * from (select *, sum(octet_length(value)) over (order by ${order} rows unbounded preceding) - octet_length(value) as before from (${page}) as page) as page
  where before < ${pageBytesMax} order by ${order}`
