/** The kinds of fields that a book is made of, and the ISBN. */
import isISBN from 'validator/lib/isISBN.js'
import { Type, type Static, type TSchema, type TStringOptions } from 'typebox'
import type { Format } from '@bifold/cqrs'

/** A line of text in any script, without control characters. */
export const text = (bounds: TStringOptions) => Type.String({ ...bounds, pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f]*$', 'x-message': 'must not contain control characters' })

/** Text that may have several lines: tab and newline are its only control characters. */
export const lines = (bounds: TStringOptions) => Type.String({ ...bounds, pattern: '^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f]*$', 'x-message': 'must not contain control characters other than tab and newline' })

/** A field of a change: absent leaves it, null takes it away. A list of types, since a union would report each wrong value thrice. */
export function orNull<Schema extends TSchema> (schema: Schema) {
  return Type.Optional(Type.Unsafe<Static<Schema> | null>({ ...schema, type: [(schema as { type?: string }).type, 'null'] }))
}

/** The string format `isbn`: check digit and length. */
export const isbn: Format = {
  validate: candidate => isISBN.default(candidate),
  message: 'must be an ISBN-13 or ISBN-10 with a valid check digit'
}

/** One form for each ISBN, so that the database sees that two are the same: ISBN-13, digits only. */
export function isbn13 (isbn: string): string {
  const plain = isbn.replaceAll(/[\s-]/g, '')
  if (plain.length === 13) return plain
  const body = `978${plain.slice(0, 9)}`
  // The check digit of an EAN-13: weights 1 and 3 in turn (ISO 2108).
  const sum = [...body].reduce((total, digit, index) => total + Number(digit) * (index % 2 === 0 ? 1 : 3), 0)
  return `${body}${(10 - sum % 10) % 10}`
}
