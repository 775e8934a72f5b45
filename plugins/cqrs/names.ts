/** The names of fields: callers write them as the .proto file does, documents have them in camelCase, and the id as `_id`. */

type Upper = 'A' | 'B' | 'C' | 'D' | 'E' | 'F' | 'G' | 'H' | 'I' | 'J' | 'K' | 'L' | 'M' | 'N' | 'O' | 'P' | 'Q' | 'R' | 'S' | 'T' | 'U' | 'V' | 'W' | 'X' | 'Y' | 'Z'
type Snake<Name extends string> = Name extends `${infer First}${infer Rest}` ? `${First extends Upper ? `_${Lowercase<First>}` : First}${Snake<Rest>}` : ''

/** The name of a document's field as the .proto file has it: `publishedYear` is `published_year`. */
export type ProtoName<Field extends string> = Field extends '_id' ? 'id' : Snake<Field>

/** @example pathOf('published_year') // 'publishedYear' */
export const pathOf = (name: string): string => name === 'id' ? '_id' : camelCase(name)

/** @example camelCase('published_year') // 'publishedYear' */
export const camelCase = (name: string): string => name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())

/** @example protoName('publishedYear') // 'published_year' */
export const protoName = (name: string): string => name.replaceAll(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)
