/** Checks values against schemas, and tells every field that was wrong in words. */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import addFormats from 'ajv-formats'
import type { FieldError } from './errors.ts'
import type { Format } from './module.ts'

/** The keyword of a schema that says in words what a `pattern` asks for. */
export const messageKeyword = 'x-message'

// Without the prefix `urn:uuid:`, which ajv-formats lets pass and PostgreSQL refuses.
const uuid = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i

// Of a text with a format of a module's own. ajv tries a format also where `maxLength` has failed, and what a message may bring takes
// a format long: Unicode's composing of a megabyte of marks, a minute.
const formatMax = 2000 // the longest that has one is a filter

const errorsMax = 100 // told of one request: a form with every field wrong has 15, and an answer is not to be many times its question

/** Compiles schemas, with the modules' own formats beside the standard ones. */
export function compiler (formats: Readonly<Record<string, Format>> = {}): (schema: object) => ValidateFunction {
  // allErrors: every wrong field is named. Input is bounded in size and depth before it comes here.
  const ajv = new Ajv({ allErrors: true, verbose: true, strict: true, strictTypes: false, coerceTypes: false, useDefaults: false, removeAdditional: false })
  addFormats.default(ajv)
  ajv.addFormat('uuid', uuid)
  ajv.addVocabulary([messageKeyword, 'example', 'style', 'explode'])
  for (const [name, { validate }] of Object.entries(formats)) ajv.addFormat(name, { type: 'string', validate: text => text.length <= formatMax && validate(text) })
  const says = (name: string, text: string) => {
    const message = formats[name]?.message ?? `must be a valid ${name}`
    if (name in formats && text.length > formatMax) return `must not have more than ${formatMax} characters`
    return typeof message === 'string' ? message : message(text)
  }
  return schema => {
    const validate = ajv.compile(schema)
    const checked = (value: unknown) => {
      const fits = validate(value)
      checked.errors = validate.errors?.map(error => error.keyword === 'format' ? { ...error, message: says(error.params['format'], error.data as string) } : error) ?? null
      return fits
    }
    checked.errors = null as ErrorObject[] | null
    checked.schema = schema
    return checked as unknown as ValidateFunction
  }
}

/** The fields that ajv found wrong, the first hundred: a JSON Pointer and a sentence each. */
export function fieldErrors (errors: readonly ErrorObject[] | null | undefined): FieldError[] {
  return (errors ?? []).slice(0, errorsMax).map(({ instancePath, keyword, params, message, parentSchema }) => {
    if (keyword === 'required') return { path: `${instancePath}/${params['missingProperty']}`, message: 'is required' }
    if (keyword === 'additionalProperties') return { path: `${instancePath}/${pointer(params['additionalProperty'])}`, message: 'is not a known field' }
    if (keyword === 'enum') return { path: instancePath, message: `must be one of ${params['allowedValues'].filter((value: unknown) => value !== '').join(', ')}` }
    if (keyword === 'pattern') return { path: instancePath, message: parentSchema?.[messageKeyword] ?? message ?? '' }
    return { path: instancePath, message: message ?? keyword }
  })
}

/** A name as a part of a JSON Pointer (RFC 6901), in which `~` and `/` are escaped. */
export const pointer = (name: string) => name.replaceAll('~', '~0').replaceAll('/', '~1')
