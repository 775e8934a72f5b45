/** The shape that the three servers share, so that the stack treats them alike. */
import type { Folder } from './folder.ts'

export const serverNames = ['postgres', 'kafka', 'mongo'] as const
export type ServerName = (typeof serverNames)[number]

/** What the applications need to know of a stack: the same names as in the environment. */
export interface StackEnv {
  POSTGRES_URL: string
  KAFKA_BROKERS: string
  MONGO_URL: string
}

/** A command to run, and what to keep about it. */
export interface Program {
  name: string
  command: string
  args: string[]
  env?: Record<string, string>
  user?: User
}

/** An account of this machine, for a server that refuses to run as root. */
export interface User {
  name: string
  uid: number
  gid: number
}

/** A server's binaries, and how to run them in a stack's folder. */
export interface Software {
  source: string
  version: string
  /** Formats the data folders that do not exist yet, and names the programs to run. */
  programs (folder: Folder, ports: number[]): Promise<Program[]>
}

export type Say = (doing: string) => void

export interface Server {
  name: ServerName
  title: string
  /** The environment variable with its address. */
  variable: keyof StackEnv
  stopSignal: NodeJS.Signals
  /** Its processes by name, each with a data folder, a log and a pid file of that name. */
  members (brokers: number): string[]
  /** The ports that it wants, those that clients know first. */
  defaultPorts (brokers: number): number[]
  url (ports: number[], brokers: number): string
  /** Finds the binaries on the PATH or installs them. */
  find (say: Say): Promise<Software>
  /** What a fresh server needs once, and nothing if it has it: a database, a replica set. */
  prepare (url: string): Promise<void>
  /** Rejects unless the server answers a real request; `brokers` 0 means any number of them. */
  answers (url: string, brokers: number): Promise<void>
}

/** An error whose message is all that its reader needs: what is wrong, and what to do. */
export class StackError extends Error {
  override name = 'StackError'
}
