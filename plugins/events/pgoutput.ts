/**
 * Decodes what the relay needs of `pgoutput`, PostgreSQL's logical replication stream: the rows inserted into one table,
 * by transaction. Values stay text, as they are sent on. (PostgreSQL manual, "Logical Replication Message Formats".)
 */

import type { Committed, Place, Row } from './stream.ts'

const tag = { begin: 0x42, commit: 0x43, relation: 0x52, insert: 0x49 }

/** Makes a decoder: give it each message's bytes; at the end of a transaction it returns it. */
export function makeDecoder (): (message: Buffer) => Committed | undefined {
  const relations = new Map<number, string[]>()
  let rows: Row[] = []
  return message => {
    switch (message[0]) {
      case tag.begin:
        rows = []
        return undefined
      case tag.relation:
        relations.set(message.readUInt32BE(1), columnsOf(message))
        return undefined
      case tag.insert:
        rows.push(rowOf(message, relations))
        return undefined
      case tag.commit:
        return { place: lsnAt(message, 2), end: lsnAt(message, 10), rows } // where the commit record begins, and the one after it
      default: // origins, types, and what the publication does not carry
        return undefined
    }
  }
}

export const lsnAt = (bytes: Buffer, offset: number): Place => bytes.toString('hex', offset, offset + 8)

function columnsOf (message: Buffer): string[] {
  let at = 5
  const text = () => {
    const end = message.indexOf(0, at)
    const found = message.toString('utf8', at, end)
    at = end + 1
    return found
  }
  text() // schema
  text() // table
  at += 1 // replica identity
  const count = message.readUInt16BE(at)
  at += 2
  return Array.from({ length: count }, () => {
    at += 1 // flags
    const name = text()
    at += 8 // type and its modifier
    return name
  })
}

function rowOf (message: Buffer, relations: Map<number, string[]>): Row {
  const columns = relations.get(message.readUInt32BE(1))
  if (columns === undefined) throw new Error('The WAL stream has a row of a table that it did not describe')
  const row: Record<string, string | null> = {}
  let at = 8 // after the tag, the relation, 'N' and the number of columns
  for (const column of columns) {
    const kind = message[at++]
    if (kind !== 0x74) { // 't' for text; 'n' for NULL; an insert has no 'u' (unchanged)
      row[column] = null
      continue
    }
    const length = message.readUInt32BE(at)
    at += 4
    row[column] = message.toString('utf8', at, at + length)
    at += length
  }
  return row
}
