/** The types of a client, made from a service as ts-proto's `generic-definitions` describe it. */

/** A message, as ts-proto generates it. `any`, since a message type is both read and written. */
export interface Message<T> {
  encode (message: T): { finish (): Uint8Array }
  decode (bytes: Uint8Array): T
  fromPartial (object: any): T
}

export interface Method {
  readonly name: string
  readonly requestType: Message<any>
  readonly requestStream: boolean
  readonly responseType: Message<any>
  readonly responseStream: boolean
}

export interface Service {
  readonly fullName: string
  readonly methods: Readonly<Record<string, Method>>
}

/** The fields of a request that matter; the others have their defaults. */
export type RequestOf<M extends Method> = Parameters<M['requestType']['fromPartial']>[0]

export type ResponseOf<M extends Method> = ReturnType<M['responseType']['decode']>

export interface CallOptions {
  /** How long the call may take, retries included; the client's if left out. */
  readonly deadlineMs?: number
  /** Ends the call, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal
}

type Unary = { readonly requestStream: false, readonly responseStream: false }
type Streaming = { readonly requestStream: false, readonly responseStream: true }

/** A method for each RPC that takes one request: a promise, or what is to be iterated over. */
export type Calls<S extends Service> = {
  readonly [Name in keyof S['methods'] as S['methods'][Name] extends Unary ? Name : never]:
  (request: RequestOf<S['methods'][Name]>, options?: CallOptions) => Promise<ResponseOf<S['methods'][Name]>>
} & {
  readonly [Name in keyof S['methods'] as S['methods'][Name] extends Streaming ? Name : never]:
  (request: RequestOf<S['methods'][Name]>, options?: Pick<CallOptions, 'signal'>) => AsyncIterable<ResponseOf<S['methods'][Name]>>
}
