/** What the benchmarks ran on: the machine, the versions, the settings. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem, type } from 'node:os'
import { kafkaSettings, postgresSettings, versions } from '@bifold/stack/settings'

export interface Facts { readonly date: string, readonly commit: string, readonly machine: Record<string, string>, readonly versions: Record<string, string>, readonly settings: Record<string, string> }

export function facts (): Facts {
  const [cpu] = cpus()
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Record<string, { version: string }> }
  const installed = (name: string) => packages[`node_modules/${name}`]!.version
  return {
    date: new Date().toISOString().slice(0, 16).replace('T', ' '),
    commit: commit(),
    machine: { cores: String(availableParallelism()), processor: cpu?.model.trim() ?? 'unknown', memory: `${Math.round(totalmem() / 2 ** 30)} GiB`, system: `${type()} ${release()}` },
    versions: { 'Node.js': process.versions.node, PostgreSQL: versions.postgres, Kafka: versions.kafka, MongoDB: versions.mongo, ...Object.fromEntries(['fastify', 'kysely', 'pg', 'kafkajs', 'mongodb', 'autocannon'].map(name => [name, installed(name)])) },
    settings: { ...postgresSettings, ...kafkaSettings, 'MongoDB writes': 'w: majority, journalled', 'Kafka writes': 'acks=all, idempotent', 'load generator': 'on the same machine' }
  }
}

function commit (): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
  } catch {
    return 'unknown'
  }
}
