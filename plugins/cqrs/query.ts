/** Declares queries: for each RPC of a service, its HTTP route, the schema of its input, and the answer from the read models. */
import type { TSchema } from 'typebox'
import type { Where } from './filter.ts'

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

/** One page of a list. `where` is a MongoDB filter; `fields` are those of the documents that are wanted, if not all. */
export interface PageRequest { where: Where, order: Order, size: number, token: string, fields?: readonly string[] | undefined }

/** One page of a search. `score` is an expression of MongoDB's. */
export interface RankedRequest { where: Where, score: Readonly<Record<string, unknown>>, size: number, token: string }

/** Reads one collection, within the deadline of the call that it was made for. */
export interface Reader<View> {
  /** The documents of these ids, in any order; those that do not exist are left out. Reads at the same time share one fetch. Rejects with AnswerTooLarge if they are more than an answer may have. */
  get (ids: readonly string[]): Promise<View[]>
  /** A page after the one that gave `token`; keyset paging, so that pages stay right while documents come and go. One of large documents has fewer than `size`. */
  page (request: PageRequest): Promise<{ items: View[], nextToken: string }>
  /** The ids of a page of those that match, by falling score and then by the id. Of more than 20,000 that match, only so many are looked at. */
  ranked (request: RankedRequest): Promise<{ ids: string[], nextToken: string }>
}

interface Route<Request> {
  /** The HTTP route of GET; `:name` fills the request's field of that name. */
  readonly url: string
  /** One line for the OpenAPI document. */
  readonly summary: string
  /** Checks the request's fields, on gRPC and HTTP alike: each field has a schema. */
  readonly input: TSchema & { readonly properties: Record<keyof Request, TSchema> }
}

/** A query that is answered from documents. */
export interface AnswerQuery<Request, Response, Views> extends Route<Request> {
  readonly answer: (request: Request, views: { readonly [Name in keyof Views]: Reader<Views[Name]> }) => Promise<Response>
}

/** A query that is answered with the stored message of one document (`message` of its projection): no answer is cheaper. */
export interface PointQuery<Request, Views> extends Route<Request> {
  readonly point: {
    readonly view: keyof Views & string
    readonly id: (request: Request) => string
    /** The error to throw when there is no such document. */
    readonly missing: (request: Request) => Error
  }
}

export type Query<Request, Response, Views> = AnswerQuery<Request, Response, Views> | PointQuery<Request, Views>

/** What there is to tell those who watch. */
export interface News<View> {
  /** A snapshot begins: what was told before counts no more. */
  readonly begins: boolean
  /** Documents of the snapshot, or that have changed, as they are now. */
  readonly changed: readonly View[]
  /** Ids of documents that are gone, or do not match any more. */
  readonly removed: readonly string[]
  /** Where it goes on after a disconnect; empty before a snapshot is whole. */
  readonly resumeToken: string
}

/** A query that is answered with what there is, and then with each change of it: for an RPC that streams its responses; over HTTP as Server-Sent Events. */
export interface WatchQuery<Request, Response, Views> extends Route<Request> {
  readonly watch: {
    readonly [Name in keyof Views & string]: {
      readonly view: Name
      /** A MongoDB filter of plain comparisons, which is also evaluated here. Whoever has the same shares the work. */
      readonly where: (request: Request) => Readonly<Record<string, unknown>>
      /** The field of the request with the resume token; empty for a snapshot. Over HTTP, `Last-Event-ID` fills it. */
      readonly resumeField: keyof Request & string
      readonly message: (news: News<Views[Name]>) => Response
    }
  }[keyof Views & string]
}

/**
 * A query for each RPC of the service: a missing or misspelt RPC does not compile.
 *
 * @example
 * export const queries: Queries<typeof BookQueryServiceDefinition, { books: BookView }> = {
 *   listBooks: { url: '/books', summary: 'List books', input: Type.Object({ … }), async answer ({ author }, { books }) { … } },
 *   getBook: { url: '/books/:id', summary: 'Get a book', input: Type.Object({ id: Uuid }), point: { view: 'books', id: ({ id }) => id, missing: ({ id }) => new BookNotFound(id) } }
 * }
 */
export type Queries<S extends Service, Views> = {
  readonly [Name in keyof S['methods']]: S['methods'][Name]['responseStream'] extends true
    ? WatchQuery<RequestOf<S['methods'][Name]>, ResponseOf<S['methods'][Name]>, Views>
    : Query<RequestOf<S['methods'][Name]>, ResponseOf<S['methods'][Name]>, Views>
}

/** Any queries, where their types do not matter. */
export type AnyQueries = Readonly<Record<string, Query<never, unknown, never> | AnyWatch>>

export type AnyWatch = Route<never> & {
  readonly watch: { readonly view: string, readonly where: (request: never) => Readonly<Record<string, unknown>>, readonly resumeField: string, readonly message: (news: News<never>) => unknown }
}
