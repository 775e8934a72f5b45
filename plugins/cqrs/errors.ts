/** Declares the errors that a rule may throw: one line each, at the top of the file of the rule they guard. */
import makeError from '@fastify/error'
import type { ErrorStatus } from './status.ts'

/** A field that was wrong: a JSON Pointer (RFC 6901) and a sentence. */
export interface FieldError { path: string, message: string }

/** An error with a code that clients can rely on, on HTTP and gRPC alike. */
export interface DomainError extends Error {
  readonly code: string
  readonly statusCode: ErrorStatus
  /** True if the same call may succeed later, without a change. */
  readonly retryable: boolean
  /** The fields that were wrong, if the error is about the input. */
  errors?: FieldError[]
}

export interface DomainErrorClass<Args extends unknown[] = unknown[]> {
  new (...args: Args): DomainError
  readonly code: string
  readonly status: ErrorStatus
  readonly template: string
}

/**
 * Makes an error class.
 *
 * @param code what clients match on; begins with the module's name, such as `BOOKS_NOT_FOUND`
 * @param template the sentence, `%s` for each argument
 * @param status the HTTP status; the gRPC status follows from it (status.ts)
 * @param options `field`: the JSON Pointer of the field at fault; `retryable`: the call may succeed later
 * @example
 * export const BookNotFound = createError<[id: string]>('BOOKS_NOT_FOUND', "Book '%s' does not exist", 404)
 * throw new BookNotFound(id)
 */
export function createError<Args extends unknown[] = []> (
  code: string, template: string, status: ErrorStatus, options: { field?: string, retryable?: boolean } = {}
): DomainErrorClass<Args> {
  const Base = makeError<unknown[]>(code, template, status)
  function Made (this: unknown, ...args: Args) {
    const error = Reflect.construct(Base, args, new.target ?? Made) as DomainError
    Object.assign(error, { retryable: options.retryable ?? false })
    if (options.field !== undefined) error.errors = [{ path: options.field, message: error.message }]
    return error
  }
  Object.setPrototypeOf(Made, Base)
  Made.prototype = Object.create(Base.prototype, { constructor: { value: Made } })
  return Object.assign(Made, { code, status, template }) as unknown as DomainErrorClass<Args>
}

/** Tells a domain error from a bug. */
export const isDomainError = (error: unknown): error is DomainError =>
  error instanceof Error && typeof (error as DomainError).code === 'string' && typeof (error as DomainError).statusCode === 'number' && 'retryable' in error

export const InvalidInput = createError<[what: string]>('INVALID_INPUT', 'Wrong input in the %s', 400)
export const InvalidJson = createError<[why: string]>('INVALID_JSON', 'The body is not JSON: %s', 400)
export const NestedTooDeep = createError<[max: number]>('NESTED_TOO_DEEP', 'The body is nested more than %s levels deep', 400)
export const BadRequest = createError<[why: string]>('BAD_REQUEST', '%s', 400)
export const RouteNotFound = createError<[method: string, url: string]>('ROUTE_NOT_FOUND', 'There is no route %s %s', 404)
export const BodyTooLarge = createError('BODY_TOO_LARGE', 'The body is larger than this route accepts', 413)
export const HeadersTooLarge = createError('HEADERS_TOO_LARGE', 'The URL and the headers together are larger than the server accepts', 431)
export const RequestTimeout = createError('REQUEST_TIMEOUT', 'The request took too long to arrive', 408)
export const UnsupportedMediaType = createError<[type: string, accepted: string]>('UNSUPPORTED_MEDIA_TYPE', "The media type '%s' is not supported: send %s", 415)
export const Internal = createError('INTERNAL', 'Something went wrong on our side', 500)
export const VersionMismatch = createError<[id: string, actual: number, expected: string]>('VERSION_MISMATCH', "'%s' is at version %s, not at the expected %s", 412)
export const Overloaded = createError('OVERLOADED', 'More requests are waiting than the queue may hold', 503, { retryable: true })
export const Stopping = createError('STOPPING', 'This process is being stopped: go on with another', 503, { retryable: true })
export const Unavailable = createError<[server: string]>('UNAVAILABLE', '%s does not answer', 503, { retryable: true })
export const ReadModelNotReady = createError<[collection: string]>('READ_MODEL_NOT_READY', "The read model '%s' is being built", 503, { retryable: true })
export const DeadlineExceeded = createError('DEADLINE_EXCEEDED', 'The deadline passed before the answer was there', 504, { retryable: true })
export const Cancelled = createError('CANCELLED', 'The caller went away', 499)
export const TooLarge = createError<[id: string, bytesMax: number]>('TOO_LARGE', "The event of '%s' would be larger than the %s bytes that a message may have", 413)
export const KeyReused = createError<[key: string]>('IDEMPOTENCY_KEY_REUSED', "Idempotency-Key '%s' was used before for another request", 422)
export const InvalidPageToken = createError('INVALID_PAGE_TOKEN', 'The page token is not one of this list: same filter, same order, unchanged token', 400, { field: '/pageToken' })
export const InvalidToken = createError<[why: string]>('INVALID_CONSISTENCY_TOKEN', 'Consistency-Token: %s', 400)
export const AnswerTooLarge = createError('ANSWER_TOO_LARGE', 'What is asked for is more than one answer may have: ask for fewer ids', 413)
export const CommandNotFound = createError<[id: string]>('COMMAND_NOT_FOUND', "There is no queued command '%s', or it was done more than a day ago", 404)
export const InvalidResumeToken = createError('INVALID_RESUME_TOKEN', 'The resume token is not one of what is watched here: same filter, unchanged token', 400, { field: '/resumeToken' })
export const ResumeTokenExpired = createError('RESUME_TOKEN_EXPIRED', 'What came after the resume token is not kept any more: begin without one', 410)
export const WatcherTooSlow = createError('WATCHER_TOO_SLOW', 'More changes wait than are kept for one watcher: go on with the last resume token', 429, { retryable: true })
export const TooManyWatchers = createError('TOO_MANY_WATCHERS', 'As many watch here as one process takes', 429, { retryable: true })
export const UnreadableMessage = createError<[why: string]>('UNREADABLE_MESSAGE', 'The message cannot be read: %s', 400)
export const CommandUnknown = createError<[name: string]>('COMMAND_UNKNOWN', "The gateway that took it from the queue knows no command '%s': it has another version than the one that accepted it", 501)

/** Makes an INVALID_INPUT error that names every field at fault. */
export function invalidInput (what: string, errors: FieldError[]): DomainError {
  return Object.assign(new InvalidInput(what), { errors })
}

/** The errors that Bifold itself throws; each module lists its own. */
export const platformErrors: readonly DomainErrorClass<never>[] = [
  InvalidInput, InvalidJson, NestedTooDeep, BadRequest, RouteNotFound, BodyTooLarge, HeadersTooLarge, RequestTimeout, UnsupportedMediaType, Internal, VersionMismatch,
  Overloaded, Stopping, Unavailable, ReadModelNotReady, DeadlineExceeded, Cancelled, TooLarge, KeyReused, InvalidPageToken, InvalidToken, AnswerTooLarge,
  InvalidResumeToken, ResumeTokenExpired, WatcherTooSlow, TooManyWatchers, UnreadableMessage, CommandNotFound, CommandUnknown
]
