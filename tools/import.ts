/** The command line of the import: `npm run import -- FILE.ndjson`. */
import { open, type FileHandle } from 'node:fs/promises'
import { Command, InvalidArgumentError } from 'commander'
import { loadConfig, onInterrupt, reason, setting } from '@bifold/service'
import { makeGateway, type Gateway } from './gateway.ts'
import { importFile, type Refusal, type Report } from './importer.ts'
import { addressOf } from './ports.ts'
import { printable } from './printable.ts'
import { duration, makeProgress, number } from './progress.ts'

interface Options { concurrency: number, url?: string, refused?: string }

const concurrencyDefault = 4 // fills the gateway's group commits; it lets no single command wait for longer than a few of them
const concurrencyMax = 32 // each is a connection; the gateway takes 64 batches at once
const refusedShownMax = 20 // what fits on a screen
const exit = { refused: 1, interrupted: 130 } // 128 + SIGINT, as shells have it

const program = new Command('import')
  .description('Adds the books of an NDJSON file: many a POST /books:batch. Exits 0 if no line was refused, else 1; 130 after Ctrl-C.')
  .argument('<file>', 'one JSON object a line; blank lines are skipped')
  .option('--concurrency <count>', 'batches of 500 lines in flight at once', concurrency, concurrencyDefault)
  .option('--url <url>', 'the gateway (default: from HOST and GATEWAY_PORT)')
  .option('--refused <file>', 'writes every refused line\'s number, code and reasons to this file, as NDJSON')
  .addHelpText('after', `
Safe to run twice and to interrupt: each line is sent with an Idempotency-Key made of its text, so a line that
was added before counts as already there. That holds as long as the gateway keeps the key. Afterwards a book whose
ISBN is there is refused (BOOKS_ISBN_TAKEN), but a book without an ISBN is added again, as is an edited line.`)
  .action(run)

try {
  await program.parseAsync()
} catch (error) {
  console.error(reason(error))
  process.exitCode = exit.refused
}

async function run (file: string, { concurrency, url = gatewayUrl(), refused }: Options): Promise<void> {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) throw new Error(`--url ${url} is not an http address such as http://127.0.0.1:3000`)
  const totalBytes = await size(file)
  const gateway = makeGateway({ url, connections: concurrency })
  await using list = refused === undefined ? undefined : await open(refused, 'w')
  try {
    await reach(gateway, url)
    const stop = new AbortController()
    onInterrupt(() => stop.abort(), exit.interrupted)
    const shown: Refusal[] = []
    const progress = makeProgress(totalBytes)
    const report = await importFile({
      file,
      gateway,
      concurrency,
      signal: stop.signal,
      onProgress: progress.update,
      onRefused: refusal => keep(refusal, shown, list)
    }).finally(progress.stop)
    print(report, shown, { url, interrupted: stop.signal.aborted, refused })
  } finally {
    await gateway.close()
  }
}

function concurrency (text: string): number {
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1 || count > concurrencyMax) throw new InvalidArgumentError(`It must be an integer from 1 to ${concurrencyMax}.`)
  return count
}

function gatewayUrl (): string {
  const { HOST, GATEWAY_PORT } = loadConfig({ GATEWAY_PORT: setting.port(3000) })
  return `http://${addressOf(HOST, GATEWAY_PORT)}`
}

async function size (file: string): Promise<number> {
  await using handle = await open(file)
  const stats = await handle.stat()
  if (!stats.isFile()) throw new Error(`${file} is not a file`)
  return stats.size
}

async function reach (gateway: Gateway, url: string): Promise<void> {
  try {
    await gateway.reach()
  } catch (cause) {
    throw new Error(`The gateway does not answer at ${url} (${reason(cause)}). Start Bifold with "npm start", or only the gateway with "npm run gateway", or name another with --url.`, { cause })
  }
}

async function keep (refusal: Refusal, shown: Refusal[], list: FileHandle | undefined): Promise<void> {
  if (shown.length < refusedShownMax) shown.push(refusal)
  await list?.appendFile(`${JSON.stringify(refusal)}\n`)
}

function print ({ lines, added, alreadyThere, refused, durationMs, gaveUp }: Report, shown: readonly Refusal[], { url, interrupted, refused: list }: { url: string, interrupted: boolean, refused: string | undefined }): void {
  const width = number(lines).length
  console.log(`${number(lines)} lines in ${duration(durationMs)}, ${number(durationMs > 0 ? lines / durationMs * 1000 : 0)} lines/s`)
  console.log(`  ${number(added).padStart(width)} added`)
  console.log(`  ${number(alreadyThere).padStart(width)} already there`)
  console.log(`  ${number(refused).padStart(width)} refused`)
  for (const { line, code, reasons } of shown) console.log(printable(`line ${line}: ${code}: ${reasons.join('; ')}`))
  if (refused > shown.length) console.log(`… and ${number(refused - shown.length)} more${list === undefined ? '; --refused FILE writes all of them' : ''}`)
  if (list !== undefined) console.log(`Every refused line is in ${list}`)
  if (refused > 0) process.exitCode = exit.refused
  if (gaveUp !== undefined) {
    console.error(`Given up: the gateway at ${url} does not take commands (${printable(gaveUp)}). Once it does, run the same command again: it goes on where it stopped.`)
    process.exitCode = exit.refused
  }
  if (interrupted) {
    console.log('Interrupted: what was in flight is in the report. Run the same command again to go on.')
    process.exitCode = exit.interrupted
  }
}
