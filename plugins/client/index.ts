/** A client of a query service, typed by its definition: promises, deadlines, retries, consistency tokens and typed errors. */
import { Client as Channel, credentials, Metadata, type ChannelCredentials, type ClientOptions as ChannelOptions } from '@grpc/grpc-js'
import { BifoldError } from './error.ts'
import { makeRetry, type Patience, type Retry } from './retry.ts'
import { stream } from './stream.ts'
import type { CallOptions, Calls, Method, Service } from './definition.ts'

export { BifoldError, type FieldError } from './error.ts'
export type { CallOptions } from './definition.ts'

export interface ClientOptions {
  /** How long a call may take that says nothing else, retries included; 5,000 by default. */
  readonly deadlineMs?: number
  /** Plain text by default. */
  readonly credentials?: ChannelCredentials
  /** Options of grpc-js's channel, in place of ours. */
  readonly channel?: ChannelOptions
}

export type Client<S extends Service> = Calls<S> & {
  /** The same client, whose reads show what these tokens (a command's `Consistency-Token`) stand for, or wait until they do. */
  after (...tokens: string[]): Client<S>
  close (): void
}

const deadlineMsDefault = 5000 // as the service has it
const tokenKey = 'consistency-token'
const channelOptions: ChannelOptions = {
  'grpc.service_config': JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }), // of several services each has its share, and one that is gone none
  'grpc.keepalive_time_ms': 20_000, // a service that hangs, or a way that is cut, is found out while calls wait; the service lets nobody ask more often than each 10 s
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.initial_reconnect_backoff_ms': 100, // a service that is restarted is met soon
  'grpc.max_reconnect_backoff_ms': 2000,
  'grpc.max_receive_message_length': 20 * 1024 * 1024 // one document of MongoDB has 16 MB at most; several, 3 MB
}

/**
 * Makes a client. It connects at its first call, and again whenever the connection is lost.
 *
 * @param address a gRPC target: `localhost:50051`, `dns:///query:50051`, `ipv4:10.0.0.1:50051,10.0.0.2:50051`
 * @example
 * const books = createClient(booksV1.BookQueryServiceDefinition, 'localhost:50051')
 * const book = await books.after(token).getBook({ id }, { deadlineMs: 500 })
 */
export function createClient<S extends Service> (service: S, address: string, options: ClientOptions = {}): Client<S> {
  const channel = new Channel(address, options.credentials ?? credentials.createInsecure(), { ...channelOptions, ...options.channel })
  return clientOf({ service, channel, retry: makeRetry(), deadlineMs: options.deadlineMs ?? deadlineMsDefault }, new Set())
}

interface Base<S extends Service> { readonly service: S, readonly channel: Channel, readonly retry: Retry, readonly deadlineMs: number }

function clientOf<S extends Service> (base: Base<S>, tokens: ReadonlySet<string>): Client<S> {
  const { service, channel, retry, deadlineMs } = base
  const calls = Object.entries(service.methods).filter(([, { requestStream }]) => !requestStream).map(([name, method]) => {
    const path = `/${service.fullName}/${method.name}`
    if (method.responseStream) return [name, (request: object, { signal }: CallOptions = {}) => stream(channel, path, method, request, { metadata: metadataOf(tokens), signal })]
    return [name, async (request: unknown, options: CallOptions = {}) => {
      const patience = { deadline: Date.now() + (options.deadlineMs ?? deadlineMs), signal: options.signal }
      return await retry(async () => await unary(channel, path, method, request, metadataOf(tokens), patience), patience)
    }]
  })
  return {
    ...Object.fromEntries(calls),
    after: (...more: string[]) => clientOf(base, new Set([...tokens, ...more])),
    close: () => channel.close()
  }
}

function metadataOf (tokens: ReadonlySet<string>): Metadata {
  const metadata = new Metadata()
  for (const token of tokens) metadata.add(tokenKey, token)
  return metadata
}

/** One attempt. */
async function unary (channel: Channel, path: string, { requestType, responseType }: Method, request: unknown, metadata: Metadata, { deadline, signal }: Patience): Promise<unknown> {
  signal?.throwIfAborted()
  return await new Promise((resolve, reject) => {
    const encode = (message: unknown) => Buffer.from(requestType.encode(message).finish())
    const call = channel.makeUnaryRequest(path, encode, bytes => responseType.decode(bytes), requestType.fromPartial(request), metadata, { deadline }, (error, response) => {
      signal?.removeEventListener('abort', cancel)
      if (error === null) resolve(response)
      else reject(signal?.aborted === true ? signal.reason : new BifoldError(error))
    })
    const cancel = () => call.cancel()
    signal?.addEventListener('abort', cancel)
  })
}
