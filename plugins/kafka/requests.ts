/**
 * A connection of kafkajs looks a thousand times a second whether a request waits to be sent, from its first answer on and for ever,
 * though nothing waits unless Kafka throttles it (kafkajs issue 1751). It is to look only while something does.
 */

interface RequestQueue {
  readonly pending: readonly unknown[]
  scheduleCheckPendingRequests (): void
}

// TypeScript asks for any[] of what is to be extended.
type Make = new (...args: any[]) => RequestQueue

/** Extends the queue of a connection's requests. Each request that has to wait comes by here, and so does each answer. */
export const resting = <T extends Make>(theirs: T): T => class RestingQueue extends theirs {
  override scheduleCheckPendingRequests () {
    if (this.pending.length > 0) super.scheduleCheckPendingRequests()
  }
}
