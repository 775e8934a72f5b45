/** What a call rejects with: the error that the service has thrown, as far as it tells, or what became of the connection. */
import { status, type ServiceError } from '@grpc/grpc-js'
import { rpc } from '@bifold/proto'

export interface FieldError {
  /** By the names of the .proto file: `page_token`, `ids[3]`. */
  readonly field: string
  readonly message: string
}

export class BifoldError extends Error {
  /** What to match on, such as `BOOKS_NOT_FOUND` (docs/errors.md); the name of the gRPC status where the service told none. */
  readonly code: string
  /** The gRPC status. */
  readonly status: status
  /** The fields of the request that were wrong. */
  readonly fields: readonly FieldError[]
  /** True if the same call may succeed later. */
  readonly retryable: boolean
  /** Not before so long, if the service says so. */
  readonly retryAfterMs: number

  constructor (cause: ServiceError) {
    const { message, info, fields, retry } = readDetails(cause)
    super(message ?? cause.details, { cause })
    this.name = 'BifoldError'
    this.status = cause.code
    this.code = info?.reason ?? String(cause.metadata?.get('error-code')[0] ?? status[cause.code])
    this.fields = fields
    // Without details it comes from no service of ours: from a connection that broke, or a proxy. Queries may be repeated.
    this.retryable = info === undefined ? lost.has(cause.code) : retry !== undefined
    this.retryAfterMs = retry === undefined ? 0 : retry.seconds * 1000 + retry.nanos / 1e6
  }
}

const lost = new Set([status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.CANCELLED]) // the last by the service, of a stream that was silent for long: what the caller cancels never comes here

interface Details { readonly message?: string, readonly info?: rpc.ErrorInfo, readonly fields: readonly FieldError[], readonly retry?: NonNullable<rpc.RetryInfo['retryDelay']> }

function readDetails ({ metadata }: ServiceError): Details {
  const [bytes] = metadata?.get(rpc.detailsKey) ?? []
  if (!(bytes instanceof Buffer)) return { fields: [] }
  try {
    const { message, details } = rpc.Status.decode(bytes)
    const find = (name: Parameters<typeof rpc.typeUrl>[0]) => details.find(({ typeUrl }) => typeUrl === rpc.typeUrl(name))?.value
    const [info, bad, retry] = [find('ErrorInfo'), find('BadRequest'), find('RetryInfo')]
    return {
      message,
      fields: bad === undefined ? [] : rpc.BadRequest.decode(bad).fieldViolations.map(({ field, description }) => ({ field, message: description })),
      ...info === undefined ? {} : { info: rpc.ErrorInfo.decode(info) },
      ...retry === undefined ? {} : { retry: rpc.RetryInfo.decode(retry).retryDelay ?? { seconds: 0, nanos: 0 } }
    }
  } catch {
    return { fields: [] } // not as Google has them: the status itself says enough
  }
}
