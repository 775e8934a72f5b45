/** The total table from an error's HTTP status to its gRPC status: a new status does not compile unmapped. */

/** The HTTP statuses that an error may have. */
export type ErrorStatus = 400 | 401 | 403 | 404 | 405 | 406 | 408 | 409 | 410 | 412 | 413 | 415 | 422 | 428 | 429 | 431 | 499 | 500 | 501 | 503 | 504

/** Codes of google.rpc.Code; numbers, since the contract knows no gRPC library. */
export const grpcCodes = {
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16
} as const

export type GrpcCode = typeof grpcCodes[keyof typeof grpcCodes]

/** After connect-es's table, read backwards; 410, 412 and 422 are our choice. */
const grpcOf: Record<ErrorStatus, GrpcCode> = {
  400: grpcCodes.INVALID_ARGUMENT,
  401: grpcCodes.UNAUTHENTICATED,
  403: grpcCodes.PERMISSION_DENIED,
  404: grpcCodes.NOT_FOUND,
  405: grpcCodes.UNIMPLEMENTED,
  406: grpcCodes.INVALID_ARGUMENT,
  408: grpcCodes.DEADLINE_EXCEEDED,
  409: grpcCodes.ABORTED,
  410: grpcCodes.OUT_OF_RANGE,
  412: grpcCodes.FAILED_PRECONDITION,
  413: grpcCodes.RESOURCE_EXHAUSTED,
  415: grpcCodes.INVALID_ARGUMENT,
  422: grpcCodes.FAILED_PRECONDITION,
  428: grpcCodes.FAILED_PRECONDITION,
  429: grpcCodes.RESOURCE_EXHAUSTED,
  431: grpcCodes.RESOURCE_EXHAUSTED,
  499: grpcCodes.CANCELLED,
  500: grpcCodes.INTERNAL,
  501: grpcCodes.UNIMPLEMENTED,
  503: grpcCodes.UNAVAILABLE,
  504: grpcCodes.DEADLINE_EXCEEDED
}

/** The gRPC status of an error: of a domain error by the table, INTERNAL for everything else. */
export function grpcStatus (error: unknown): GrpcCode {
  const status = (error as { statusCode?: number } | null)?.statusCode
  return grpcOf[status as ErrorStatus] ?? grpcCodes.INTERNAL
}
