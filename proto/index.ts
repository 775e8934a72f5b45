/** The generated clients and services, and where the .proto files are (the reflection service reads them). */
import { fileURLToPath } from 'node:url'
import * as rpc from './rpc.ts'

export * as booksV1 from './gen/books/v1/books.ts'
export * as lendingV1 from './gen/lending/v1/lending.ts'
export { rpc }

/** The folder that imports in .proto files are relative to. */
export const protoRoot = fileURLToPath(new URL('.', import.meta.url))
