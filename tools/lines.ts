/** Reads a file line by line, in bounded memory whatever its lines are. */
import { createReadStream } from 'node:fs'

export interface Line {
  /** From 1, as editors count. */
  readonly number: number
  /** The bytes of the file up to and with this line. */
  readonly endBytes: number
  /** Without the spaces around it; or why it cannot be read. */
  readonly content: { readonly text: string } | { readonly fault: 'too long' | 'not UTF-8' }
}

const newline = 0x0a

/** Yields each line; of one longer than `bytesMax` only that it is too long. */
export async function * readLines (file: string, bytesMax: number): AsyncGenerator<Line> {
  let number = 0
  let endBytes = 0
  let parts: Buffer[] = []
  let lengthBytes = 0
  const keep = (part: Buffer) => {
    lengthBytes += part.length
    if (lengthBytes > bytesMax) parts = []
    else parts.push(part)
  }
  const take = (): Line => {
    const content = lengthBytes > bytesMax ? { fault: 'too long' as const } : decoded(Buffer.concat(parts))
    parts = []
    lengthBytes = 0
    return { number: ++number, endBytes, content }
  }
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    let start = 0
    for (let end = chunk.indexOf(newline); end !== -1; end = chunk.indexOf(newline, start)) {
      keep(chunk.subarray(start, end))
      endBytes += end + 1 - start
      yield take()
      start = end + 1
    }
    keep(chunk.subarray(start))
    endBytes += chunk.length - start
  }
  if (lengthBytes > 0) yield take()
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

function decoded (bytes: Buffer): Line['content'] {
  try {
    return { text: utf8.decode(bytes).trim() }
  } catch {
    return { fault: 'not UTF-8' }
  }
}
