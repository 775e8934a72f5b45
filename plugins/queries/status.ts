/** What a failed query is told over gRPC: a status, the error's code, and Google's error details for those who read them. */
import { Metadata, type StatusObject } from '@grpc/grpc-js'
import { grpcStatus, Internal, isDomainError, protoName, type DomainError, type FieldError } from '@bifold/cqrs'
import { rpc } from '@bifold/proto'

const domain = 'bifold'
// Together within the 8 KiB of headers that gRPC's libraries take if not told otherwise.
const messageBytesMax = 1024 // in the status, where a byte may become three, and again in the details
const fieldsBytesMax = 2048 // in base64 some 3 KiB
const retryDelay = { seconds: 0, nanos: 100_000_000 } // 100 ms: a full queue is worked off by half within

/** The status to end a call with; of what is no domain error, INTERNAL and nothing more. */
export function statusOf (error: unknown): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const known = isDomainError(error) ? error : new Internal()
  const code = grpcStatus(known)
  const fields = violations(known)
  const metadata = new Metadata()
  metadata.set('error-code', known.code)
  metadata.set(rpc.detailsKey, Buffer.from(rpc.Status.encode({ code, message: cut(known.message), details: details(known, fields) }).finish()))
  return { code, details: cut([known.message, ...fields.map(({ field, description }) => `${field} ${description}`)].join('; ')), metadata }
}

function details ({ code, retryable }: DomainError, fieldViolations: readonly rpc.BadRequest_FieldViolation[]): rpc.Any[] {
  return [
    any('ErrorInfo', rpc.ErrorInfo.encode({ reason: code, domain })),
    ...fieldViolations.length > 0 ? [any('BadRequest', rpc.BadRequest.encode({ fieldViolations: [...fieldViolations] }))] : [],
    ...retryable ? [any('RetryInfo', rpc.RetryInfo.encode({ retryDelay }))] : []
  ]
}

const any = (name: Parameters<typeof rpc.typeUrl>[0], message: { finish (): Uint8Array }): rpc.Any => ({ typeUrl: rpc.typeUrl(name), value: message.finish() as rpc.Any['value'] })

/** The fields that were wrong, as many as there is room for. */
function violations ({ errors = [] }: DomainError): rpc.BadRequest_FieldViolation[] {
  let room = fieldsBytesMax
  const found = errors.map(({ path, message }) => ({ field: fieldAt(path), description: message }))
  const end = found.findIndex(({ field, description }) => (room -= Buffer.byteLength(field) + Buffer.byteLength(description)) < 0)
  return end === -1 ? found : found.slice(0, end)
}

/** The name of a field in the .proto file, since that is what the caller has written: `pageToken` is `page_token`, `/ids/3` is `ids[3]`. */
const fieldAt = (pointer: FieldError['path']): string => protoName(pointer.slice(1).replaceAll(/\/(\d+)/g, '[$1]').replaceAll('/', '.'))

const cut = (text: string): string => Buffer.byteLength(text) <= messageBytesMax ? text : `${Buffer.from(text).subarray(0, messageBytesMax - 6).toString().replace(/\uFFFD+$/, '')} …`
