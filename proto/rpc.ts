/** What a failed call tells: Google's error details, and their names as `Any` has them. */
export { Any } from './gen/google/protobuf/any.ts'
export * from './gen/google/rpc/error_details.ts'
export { Status } from './gen/google/rpc/status.ts'

/** The trailing metadata that carries a Status. */
export const detailsKey = 'grpc-status-details-bin'

export const typeUrl = (name: 'BadRequest' | 'ErrorInfo' | 'RetryInfo') => `type.googleapis.com/google.rpc.${name}`
