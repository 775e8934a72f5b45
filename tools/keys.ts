/** The Idempotency-Key of a line: the same line of the same file has the same key in every run. */
import { createHash } from 'node:crypto'

// A count-min sketch: four counters for each line, of which the least counts. Its size is fixed, however long the file is.
// Two lines that share all their counters only skip a number: a line that comes again still never gets its first key.
const rows = 4
const cells = 2 ** 21 // 32 MB in all; of a million lines, 2 in 100 skip a number

/** Makes a function from each line of a file, in the file's order, to its key: a hash, and the how-manieth of its kind it is. */
export function makeKeys (): (text: string) => string {
  const counts = new Uint32Array(rows * cells)
  return text => {
    const hash = createHash('sha256').update(text).digest()
    let occurrence = Infinity
    for (let row = 0; row < rows; row++) {
      const cell = row * cells + hash.readUInt32LE(row * 4) % cells
      counts[cell]! += 1
      occurrence = Math.min(occurrence, counts[cell]!)
    }
    return `import-${hash.toString('base64url')}-${occurrence}`
  }
}
