/** Shows how far an import or a rebuild is: a bar on a terminal, else a line now and then. */
import cliProgress from 'cli-progress'
import type { Report } from './importer.ts'

export interface Progress { update (report: Readonly<Report>): void, stop (): void }

const lineEveryMs = 5000 // seldom enough for a log

/** A bar that has not begun; `figures` are shown beside it, or alone. */
export function makeBar (figures: string) {
  const stream = process.stdout
  return new cliProgress.SingleBar({ format: stream.isTTY ? `[{bar}] ${figures}` : figures, stream, hideCursor: true, noTTYOutput: true, notTTYSchedule: lineEveryMs })
}

export function makeProgress (totalBytes: number): Progress {
  const bar = makeBar('{percentage}% | {lines} lines | {rate} lines/s | {left} left | {refused} refused')
  bar.start(totalBytes, 0, { lines: '0', rate: '-', left: '-', refused: '0' })
  return {
    update ({ lines, refused, doneBytes, durationMs }) {
      const leftMs = durationMs * (totalBytes - doneBytes) / doneBytes
      bar.update(doneBytes, { lines: number(lines), rate: number(lines / durationMs * 1000), left: duration(leftMs), refused: number(refused) })
    },
    stop: () => bar.stop()
  }
}

/** A count as people read it. */
export const number = (value: number): string => Math.round(value).toLocaleString('en-US')

/** A duration as people read it: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min. */
export function duration (ms: number): string {
  if (!Number.isFinite(ms)) return '-'
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`
}
