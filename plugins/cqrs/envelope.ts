/** The Kafka message: how an event is written into one and read from one. CloudEvents 1.0, Kafka binding, binary mode. */
import { UnreadableMessage } from './errors.ts'
import type { Recorded } from './aggregate.ts'
import type { Fact, Task } from './events.ts'

/** An event's row in the event log. `value` is the message's value as it is sent. */
export interface EventRow {
  aggregate: string
  aggregateId: string
  version: number
  type: string
  /** Of the event's shape, and so of the value's. */
  schemaVersion: number
  value: string
  requestId: string
  traceparent: string
  /** ISO 8601. */
  time: string
}

/** The message's value. `event` is left out where it would only repeat the record, as it does for most inserts. */
export interface MessageValue {
  task: Task
  data: { id: string, version: number } & Record<string, unknown>
  event?: unknown
}

/** A message as a consumer reads it: the event, in the shape in which it was written, and where it stands in the stream. */
export interface Envelope extends Recorded {
  readonly aggregate: string
  /** Of the shape of `data` and `record`; `projectionsOf` brings them into today's (upcast.ts). */
  readonly schemaVersion: number
  readonly task: Task
  /** Sortable; rises in commit order. */
  readonly sequence: string
  readonly requestId: string
}

type Bytes = Buffer | string
type Headers = Readonly<Record<string, Bytes | Bytes[] | undefined>>

/** The value of an event's message. */
export function messageValue (task: Task, id: string, version: number, record: object, fact: Fact): MessageValue {
  const value: MessageValue = { task, data: { id, version, ...record } }
  return record === fact.data ? value : { ...value, event: fact.data }
}

/** The headers of an event's message. */
export function messageHeaders (row: EventRow, sequence: string): Record<string, string> {
  return {
    ce_specversion: '1.0',
    ce_id: `${row.aggregateId}/${row.version}`,
    ce_type: row.type,
    ce_source: `/${row.aggregate}`,
    ce_subject: row.aggregateId,
    ce_time: row.time,
    ce_sequence: sequence,
    ce_version: String(row.version),
    ce_requestid: row.requestId,
    'content-type': 'application/json',
    traceparent: row.traceparent,
    ...row.schemaVersion === 1 ? {} : { ce_schemaversion: String(row.schemaVersion) } // what has no such header is of version 1, as all was before there were versions
  }
}

/**
 * Reads a message.
 *
 * @throws UNREADABLE_MESSAGE with the reason, if it is not one of ours
 */
export function readMessage ({ key, value, headers }: { key: Buffer | null, value: Buffer | null, headers?: Headers | undefined }): Envelope {
  const header = (name: string) => {
    const value = headers?.[name]?.toString()
    if (value === undefined || value === '') throw new UnreadableMessage(`the header ${name} is missing`)
    return value
  }
  const version = positive('ce_version', header('ce_version'))
  const time = new Date(header('ce_time'))
  if (Number.isNaN(time.valueOf())) throw new UnreadableMessage('the header ce_time is not a time')
  const { task, data, event } = readValue(value)
  const { id, version: _, ...record } = data
  if (id !== key?.toString()) throw new UnreadableMessage('the key is not the id of the data')
  return {
    aggregate: header('ce_source').slice(1),
    type: header('ce_type'),
    schemaVersion: positive('ce_schemaversion', headers?.['ce_schemaversion']?.toString() ?? '1'),
    sequence: header('ce_sequence'),
    requestId: headers?.['ce_requestid']?.toString() ?? '',
    id,
    version,
    task,
    time,
    record,
    data: event ?? record
  }
}

/** An event of the log, as `readMessage` reads it from its message. */
export function envelopeOf (row: EventRow, sequence: string): Envelope {
  const { task, data: { id, version, ...record }, event } = JSON.parse(row.value) as MessageValue
  return { aggregate: row.aggregate, type: row.type, schemaVersion: row.schemaVersion, sequence, requestId: row.requestId, id, version, task, time: new Date(row.time), record, data: event ?? record }
}

function positive (name: string, text: string): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1) throw new UnreadableMessage(`the header ${name} is not a positive integer`)
  return number
}

function readValue (bytes: Buffer | null): MessageValue {
  if (bytes === null) throw new UnreadableMessage('it has no value')
  let value: unknown
  try {
    value = JSON.parse(bytes.toString())
  } catch (cause) {
    throw new UnreadableMessage(`its value is not JSON: ${(cause as Error).message}`)
  }
  const { task, data } = (value ?? {}) as Partial<MessageValue>
  if (task !== 'insert' && task !== 'update' && task !== 'delete') throw new UnreadableMessage('its task is not insert, update or delete')
  if (typeof data !== 'object' || data === null || typeof data.id !== 'string') throw new UnreadableMessage('its data is not a record with an id')
  return value as MessageValue
}
