/** The types of what the stack uses of proper-lockfile, which brings none. */
declare module 'proper-lockfile' {
  interface LockOptions {
    lockfilePath: string
    realpath: boolean
    stale: number
  }
  const lockfile: { lock (file: string, options: LockOptions): Promise<() => Promise<void>> }
  export default lockfile
}
