/** Docker Compose as a source of the servers: the first choice of a stack on the default ports, if a Docker daemon answers. */
import { join } from 'node:path'
import { execa, type ExecaError } from 'execa'
import { root } from './folder.ts'
import { exists } from './sources.ts'
import { StackError, type ServerName } from './server.ts'

const composeFile = join(root, 'docker-compose.yml')
const infoWaitMs = 10_000 // A daemon that is just starting takes some seconds; one that hangs should not hang the stack.

export async function dockerAnswers (): Promise<boolean> {
  if (!await exists(composeFile)) return false
  const info = await execa('docker', ['info'], { reject: false, timeout: infoWaitMs })
  return info.exitCode === 0 && (await execa('docker', ['compose', 'version'], { reject: false })).exitCode === 0
}

/** Starts these in one go, since two would race for the network, and names those that did not run before. */
export async function composeUp (services: ServerName[]): Promise<ServerName[]> {
  const running = (await compose('ps', '--services', '--status', 'running')).split('\n')
  await compose('up', '-d', '--wait', ...services)
  return services.filter(service => !running.includes(service))
}

export async function composeStop (services: ServerName[]): Promise<void> {
  await compose('stop', ...services)
}

/** Removes the containers and their data. */
export async function composeRemove (): Promise<void> {
  await compose('down', '--volumes')
}

/** Runs one of Kafka's own scripts in its container, in this terminal's place. */
export async function composeKafkaTool (script: string, args: string[]): Promise<number> {
  process.on('SIGINT', () => {})
  const { exitCode } = await execa('docker', ['compose', '-f', composeFile, 'exec', ...process.stdin.isTTY ? [] : ['-T'], 'kafka', `/opt/kafka/bin/${script}.sh`, ...args],
    { stdio: 'inherit', reject: false })
  return exitCode ?? 1
}

async function compose (...args: string[]): Promise<string> {
  try {
    return (await execa('docker', ['compose', '-f', composeFile, ...args])).stdout
  } catch (error) {
    const reason = (error as ExecaError).stderr?.toString().trim().split('\n').at(-1)
    throw new StackError(`Docker Compose failed (${reason}). Mend that, or use the local servers with BIFOLD_STACK=local.`, { cause: error })
  }
}
