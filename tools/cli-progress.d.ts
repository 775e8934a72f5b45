/** The types of what the importer uses of cli-progress, which brings none. */
declare module 'cli-progress' {
  interface Options {
    format: string
    stream: NodeJS.WritableStream
    hideCursor: boolean
    noTTYOutput: boolean
    notTTYSchedule: number
  }
  interface Bar {
    start (total: number, value: number, payload: Record<string, string>): void
    update (value: number, payload: Record<string, string>): void
    stop (): void
  }
  const cliProgress: { SingleBar: new (options: Options) => Bar }
  export default cliProgress
}
