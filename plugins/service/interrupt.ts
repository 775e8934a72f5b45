/** Ctrl-C as one press: npm passes it on to a process that has had it from the terminal already, so that it comes twice. */

const pressAgainMs = 500 // npm's comes within milliseconds; nobody who has changed their mind is that quick

/** Calls the listener at the first Ctrl-C; a second press ends the process at once, with this exit code. */
export function onInterrupt (listener: () => void, exitCode: number): void {
  let firstMs: number | undefined
  process.on('SIGINT', () => {
    if (firstMs === undefined) {
      firstMs = performance.now()
      listener()
    } else if (performance.now() - firstMs > pressAgainMs) {
      process.exit(exitCode)
    }
  })
}
