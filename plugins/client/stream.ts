/** A stream of answers that goes on by itself: after a disconnect from the last `resumeToken`, at whatever service answers then. */
import { Metadata, status, type Client as Channel, type ClientReadableStream, type ServiceError } from '@grpc/grpc-js'
import { BifoldError } from './error.ts'
import { pauseAfter, pausing } from './retry.ts'
import type { Method } from './definition.ts'

interface Resumable { readonly resumeToken?: string }

const attemptsMax = 60 // in vain, one after the other: a service may be away for some 50 s

/**
 * Iterates until the signal is given or the loop is left. A service that stops, a connection that breaks and what the service calls
 * retryable are gone over; where the token has expired it begins anew, with a snapshot.
 */
export async function * stream (channel: Channel, path: string, { requestType, responseType }: Method, request: object, { metadata, signal }: { readonly metadata: Metadata, readonly signal: AbortSignal | undefined }): AsyncGenerator<unknown, void, void> {
  let resumeToken = (request as Resumable).resumeToken ?? ''
  for (let [inVain, begun] = [0, false]; ;) {
    signal?.throwIfAborted()
    const call = channel.makeServerStreamRequest(path, message => Buffer.from(requestType.encode(message).finish()), bytes => responseType.decode(bytes), requestType.fromPartial({ ...request, resumeToken }), begun ? new Metadata() : metadata)
    const cancel = () => call.cancel()
    signal?.addEventListener('abort', cancel)
    try {
      for await (const response of call as ClientReadableStream<Resumable>) {
        inVain = 0
        begun = true // what its consistency tokens name is shown
        resumeToken = response.resumeToken || resumeToken
        yield response
      }
      inVain++ // ended by the service, which stops
      await pausing(pauseAfter(inVain), signal)
    } catch (cause) {
      if (signal?.aborted === true) throw signal.reason
      if (!isServiceError(cause)) throw cause
      const error = new BifoldError(cause)
      if (error.status === status.OUT_OF_RANGE && resumeToken !== '') resumeToken = ''
      else if (!error.retryable || inVain >= attemptsMax) throw error
      inVain++
      await pausing(Math.max(error.retryAfterMs, pauseAfter(inVain)), signal)
    } finally {
      signal?.removeEventListener('abort', cancel)
      call.on('error', () => {}).cancel() // also when the loop is left
    }
  }
}

const isServiceError = (error: unknown): error is ServiceError => error instanceof Error && typeof (error as ServiceError).code === 'number' && 'metadata' in error
