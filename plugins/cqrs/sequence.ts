/**
 * The sequence of an event on the topic: sorts as the events were committed. An epoch stands before the place in the log and the
 * index among what was committed together; it rises when the places begin anew. Its upper half is the generation, which rises
 * when the topic itself is another, or gets again what Kafka has deleted of it: what somebody has read of it says nothing then.
 */

const form = /^[0-9a-f]{8}-[0-9a-f]{16}-[0-9a-f]{8}$/
const generationSize = 2 ** 16 // epochs: each break of the stream takes one
const epochsMax = 16 * generationSize // between two looks at the topic; an epoch beyond is nobody's, and would leave no room for higher ones

/** @param place 16 hexadecimal digits */
export const sequenceOf = (epoch: number, place: string, index: number): string => `${hex(epoch, 8)}-${place}-${hex(index, 8)}`

/** Sorts behind the sequences of all that was committed before a place, and before those of the rest. */
export const sequenceAt = (epoch: number, place: string): string => `${hex(epoch, 8)}-${place}`

/** True if a relay may have written it, as far as its form and the highest epoch that was known tell. */
export const isSequence = (text: string, epochKnown: number): boolean => form.test(text) && epochOf(text) <= epochKnown + epochsMax

/** The epoch of a sequence; 0 for none. */
export const epochOf = (sequence: string): number => sequence === '' ? 0 : parseInt(sequence.slice(0, 8), 16)

export const generationOf = (sequence: string): number => Math.floor(epochOf(sequence) / generationSize)

/** The epoch after this one, in the same topic or in another. */
export const nextEpoch = (epoch: number, { topic }: { topic: 'same' | 'another' }): number =>
  topic === 'same' ? epoch + 1 : (Math.floor(epoch / generationSize) + 1) * generationSize

/** A number in so many hexadecimal digits. */
export const hex = (number: number, digits: number): string => number.toString(16).padStart(digits, '0')
