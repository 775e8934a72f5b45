/** Imports a file of books: one command for each line, a bounded number of them at a time. */
import { pMapIterable } from 'p-map'
import { makeKeys } from './keys.ts'
import { readLines, type Line } from './lines.ts'
import type { Answer, Gateway } from './gateway.ts'

export interface ImportOptions {
  file: string
  gateway: Gateway
  concurrency: number
  /** Aborted, no further line is sent; those in flight are waited for. */
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
const aheadFactor = 4 // a line that is tried again does not hold up the others before 4 times the concurrency wait behind it

interface Numbered extends Line { readonly key: string }
type Outcome = { readonly line: Line } & (Answer | { readonly kind: 'blank' | 'not sent' })

/** @returns the report, also after an abort or when the gateway was given up */
export async function importFile ({ file, gateway, concurrency, signal, onProgress, onRefused }: ImportOptions): Promise<Report> {
  const begunMs = performance.now()
  const lost = new AbortController()
  const stopping = AbortSignal.any([signal, lost.signal])
  const report: Report = { lines: 0, added: 0, alreadyThere: 0, refused: 0, doneBytes: 0, durationMs: 0, gaveUp: undefined }
  const send = async (line: Numbered): Promise<Outcome> => {
    try {
      return { line, ...unreadable(line) ?? await gateway.post((line.content as { text: string }).text, line.key, stopping) }
    } catch (error) {
      if (!stopping.aborted) {
        report.gaveUp = (error as Error).message
        lost.abort()
      }
      return { line, kind: 'not sent' }
    }
  }
  // In the order of the file, so that the refused lines are.
  for await (const outcome of pMapIterable(numbered(file, stopping), send, { concurrency, backpressure: concurrency * aheadFactor })) {
    count(report, outcome)
    if (outcome.kind === 'refused') await onRefused({ line: outcome.line.number, code: outcome.code, reasons: outcome.reasons })
    report.durationMs = performance.now() - begunMs
    onProgress(report)
  }
  report.durationMs = performance.now() - begunMs
  return report
}

async function * numbered (file: string, signal: AbortSignal): AsyncGenerator<Numbered> {
  const keyOf = makeKeys()
  for await (const line of readLines(file, lineBytesMax)) {
    if (signal.aborted) return
    yield { ...line, key: 'text' in line.content ? keyOf(line.content.text) : '' }
  }
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
function unreadable ({ content }: Line): Exclude<Answer, { kind: 'added' }> | { kind: 'blank' } | undefined {
  if ('fault' in content) {
    return content.fault === 'too long'
      ? { kind: 'refused', code: 'BODY_TOO_LARGE', reasons: [`The line is longer than ${lineBytesMax / 1024} KiB`] }
      : { kind: 'refused', code: 'INVALID_JSON', reasons: ['The line is not UTF-8'] }
  }
  if (content.text === '') return { kind: 'blank' }
  try {
    const value: unknown = JSON.parse(content.text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return undefined
  } catch (error) {
    return { kind: 'refused', code: 'INVALID_JSON', reasons: [`The line is not JSON: ${(error as Error).message}`] }
  }
  return { kind: 'refused', code: 'INVALID_INPUT', reasons: ['The line is not a JSON object'] }
}
