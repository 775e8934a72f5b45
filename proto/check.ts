/** Fails if the generated code is not what the .proto files give today. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const own = import.meta.dirname
const fresh = mkdtempSync(join(tmpdir(), 'bifold-proto-'))
try {
  execFileSync('buf', ['generate', '--output', fresh], { cwd: own, stdio: 'inherit' })
  const files = (folder: string) => readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts')).sort()
  const [now, then] = [join(fresh, 'gen'), join(own, 'gen')]
  const stale = [...new Set([...files(now), ...files(then)])].filter(file => read(join(now, file)) !== read(join(then, file)))
  if (stale.length > 0) {
    console.error(`Not current: ${stale.map(file => `proto/gen/${file}`).join(', ')}. Run: npm run generate`)
    process.exitCode = 1
  }
} finally {
  rmSync(fresh, { recursive: true })
}

function read (file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
