/** Declares queries: for each RPC of a service, its HTTP route, the schema of its input, and the answer from the read models. */
import type { TSchema } from 'typebox'

/** A message of a .proto file, as ts-proto generates it. */
export interface Message<T> {
  encode (message: T): { finish (): Uint8Array }
  decode (bytes: Uint8Array): T
  fromJSON (object: unknown): T
  toJSON (message: T): unknown
}

/** One RPC of a generated service definition. `any`, since a message type is both read and written. */
export interface Method {
  readonly name: string
  readonly requestType: Message<any>
  readonly requestStream: boolean
  readonly responseType: Message<any>
  readonly responseStream: boolean
}

/** A service, as ts-proto's `generic-definitions` describe it. */
export interface Service {
  readonly name: string
  readonly fullName: string
  readonly methods: Readonly<Record<string, Method>>
}

type RequestOf<M extends Method> = M['requestType'] extends { decode (bytes: Uint8Array): infer T } ? T : never
type ResponseOf<M extends Method> = M['responseType'] extends { decode (bytes: Uint8Array): infer T } ? T : never

/** How a list is ordered: field to direction; `_id` is always its last field, so that no two documents are equal. */
export type Order = Readonly<Record<string, 1 | -1>>

/** One page of a list. `where` is a MongoDB filter. */
export interface PageRequest { where: Readonly<Record<string, unknown>>, order: Order, size: number, token: string }

/** Reads one collection, within the deadline of the call that it was made for. */
export interface Reader<View> {
  /** The documents of these ids, in any order; those that do not exist are left out. */
  get (ids: readonly string[]): Promise<View[]>
  /** A page after the one that gave `token`; keyset paging, so that pages stay right while documents come and go. */
  page (request: PageRequest): Promise<{ items: View[], nextToken: string }>
}

export interface Query<Request, Response, Views> {
  /** The HTTP route of GET; `:name` fills the request's field of that name. */
  readonly url: string
  /** One line for the OpenAPI document. */
  readonly summary: string
  /** Checks the request's fields, on gRPC and HTTP alike: each field has a schema. */
  readonly input: TSchema & { readonly properties: Record<keyof Request, TSchema> }
  readonly answer: (request: Request, views: { readonly [Name in keyof Views]: Reader<Views[Name]> }) => Promise<Response>
}

/**
 * A query for each RPC of the service: a missing or misspelt RPC does not compile.
 *
 * @example
 * export const queries: Queries<typeof BookQueryServiceDefinition, { books: BookView }> = {
 *   getBook: { url: '/books/:id', summary: 'Get a book', input: Type.Object({ id: Uuid }), async answer ({ id }, { books }) { … } }
 * }
 */
export type Queries<S extends Service, Views> = {
  readonly [Name in keyof S['methods']]: Query<RequestOf<S['methods'][Name]>, ResponseOf<S['methods'][Name]>, Views>
}

/** Any queries, where their types do not matter. */
export type AnyQueries = Readonly<Record<string, Query<never, unknown, never>>>
