/** Days of the calendar, in UTC, as text: `2026-01-31`. They sort as they come. */

const dayMs = 24 * 60 * 60 * 1000

export const dayOf = (time: Date): string => time.toISOString().slice(0, 10)

/** The day so many days later. */
export const daysAfter = (time: Date, days: number): string => dayOf(new Date(time.valueOf() + days * dayMs))
