/**
 * The end of a partition is where the next message goes. kafkajs asks as a reader of committed transactions does, and is told of a
 * place before that for as long as anybody has a transaction open there: what stands behind it would be sent a second time.
 */

const readUncommitted = 0 // Kafka's protocol, "ListOffsets", isolation_level

type MakeRequest = (options: { readonly isolationLevel: number }) => unknown

/** Wraps kafkajs's request for offsets. */
export const askingForTheEnd = (make: MakeRequest): MakeRequest => options => make({ ...options, isolationLevel: readUncommitted })
