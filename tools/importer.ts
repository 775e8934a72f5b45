/** Imports a file of books: one command for each line, in batches, of which a bounded number is sent at a time. */
import { pMapIterable } from 'p-map'
import { makeKeys } from './keys.ts'
import { readLines, type Line } from './lines.ts'
import type { Answer, Gateway } from './gateway.ts'

export interface ImportOptions {
  file: string
  gateway: Gateway
  /** Batches that are sent at a time. */
  concurrency: number
  /** Lines of a batch. */
  linesMax?: number
  /** Aborted, no further batch is sent; those in flight are waited for. */
  signal: AbortSignal
  onProgress (report: Readonly<Report>): void
  onRefused (refusal: Refusal): Promise<void>
}

export interface Refusal { readonly line: number, readonly code: string, readonly reasons: readonly string[] }

export interface Report {
  /** The lines that are not blank and that are done with: added, already there or refused. */
  lines: number
  added: number
  alreadyThere: number
  refused: number
  /** How far in the file, in bytes. */
  doneBytes: number
  durationMs: number
  /** Why the gateway was given up; undefined if it was not. */
  gaveUp: string | undefined
}

const lineBytesMax = 128 * 1024 // what the gateway takes in one body
const aheadFactor = 2 // a batch that is tried again does not hold up the others before as many wait behind it as are sent at once

const batchLinesMax = 500 // one transaction; more would only make the progress coarser
const batchBytesMax = 1024 * 1024 // of text: with a few large books, a batch is sent before it has so many lines

interface Numbered extends Line { readonly key: string }
type Outcome = { readonly line: Line } & (Answer | { readonly kind: 'blank' | 'not sent' })

/** @returns the report, also after an abort or when the gateway was given up */
export async function importFile ({ file, gateway, concurrency, linesMax = batchLinesMax, signal, onProgress, onRefused }: ImportOptions): Promise<Report> {
  const begunMs = performance.now()
  const lost = new AbortController()
  const stopping = AbortSignal.any([signal, lost.signal])
  const report: Report = { lines: 0, added: 0, alreadyThere: 0, refused: 0, doneBytes: 0, durationMs: 0, gaveUp: undefined }
  const send = async (lines: readonly Numbered[]): Promise<Outcome[]> => {
    const known = lines.map(unreadable)
    const asked = lines.flatMap(({ content, key }, index) => known[index] === undefined ? [{ text: (content as { text: string }).text, key }] : [])
    const { answers, failure } = asked.length === 0 ? { answers: [], failure: undefined } : await gateway.post(asked, stopping)
    if (failure !== undefined && !stopping.aborted) {
      report.gaveUp = failure
      lost.abort()
    }
    let next = 0
    return lines.map((line, index) => ({ line, ...known[index] ?? answers[next++] ?? { kind: 'not sent' } }))
  }
  // In the order of the file, so that the refused lines are.
  for await (const outcomes of pMapIterable(batches(file, linesMax, stopping), send, { concurrency, backpressure: concurrency * aheadFactor })) {
    for (const outcome of outcomes) {
      count(report, outcome)
      if (outcome.kind === 'refused') await onRefused({ line: outcome.line.number, code: outcome.code, reasons: outcome.reasons })
    }
    report.durationMs = performance.now() - begunMs
    onProgress(report)
  }
  report.durationMs = performance.now() - begunMs
  return report
}

async function * batches (file: string, linesMax: number, signal: AbortSignal): AsyncGenerator<Numbered[]> {
  const keyOf = makeKeys()
  let batch: Numbered[] = []
  let begunBytes = 0 // how far in the file the batch begins
  for await (const line of readLines(file, lineBytesMax)) {
    if (signal.aborted) return
    batch.push({ ...line, key: 'text' in line.content ? keyOf(line.content.text) : '' })
    if (batch.length < linesMax && line.endBytes - begunBytes < batchBytesMax) continue
    yield batch
    batch = []
    begunBytes = line.endBytes
  }
  if (batch.length > 0) yield batch
}

function count (report: Report, { kind, line }: Outcome): void {
  if (kind === 'not sent') return
  report.doneBytes = line.endBytes
  if (kind === 'blank') return
  report.lines++
  if (kind === 'already there') report.alreadyThere++
  else report[kind]++
}

/** What needs no gateway to tell; in its words. */
function unreadable ({ content }: Line): Extract<Answer, { kind: 'refused' }> | { kind: 'blank' } | undefined {
  if ('text' in content) return content.text === '' ? { kind: 'blank' } : undefined
  return content.fault === 'too long'
    ? { kind: 'refused', code: 'BODY_TOO_LARGE', reasons: [`The line is longer than ${lineBytesMax / 1024} KiB`] }
    : { kind: 'refused', code: 'INVALID_JSON', reasons: ['The line is not UTF-8'] }
}
