/** A copy of this checkout for a test that changes it: its own workspaces, the libraries of the original. */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Test } from 'tap'

const root = join(import.meta.dirname, '..')

/** @returns the copy's folder, which is removed when the test ends */
export function checkout (t: Test): string {
  mkdirSync(join(root, '.stack-test'), { recursive: true })
  const folder = mkdtempSync(join(root, '.stack-test/checkout-')) // below the original: packages are found there
  t.teardown(() => rmSync(folder, { recursive: true }))
  execFileSync('git', ['init', '--quiet'], { cwd: folder }) // what is in it is asked of git, here as there
  const paths = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard', ':!data'], { cwd: root, encoding: 'utf8' }).split('\0')
  for (const path of paths) if (path !== '' && existsSync(join(root, path))) cpSync(join(root, path), join(folder, path))
  mkdirSync(join(folder, 'node_modules/@bifold'), { recursive: true })
  // npm links each workspace by a relative path, which leads to the copy's here.
  for (const name of readdirSync(join(root, 'node_modules/@bifold'))) symlinkSync(readlinkSync(join(root, 'node_modules/@bifold', name)), join(folder, 'node_modules/@bifold', name))
  const manifests = paths.filter(path => path.endsWith('package.json')).map(dirname)
  for (const workspace of manifests) {
    const own = join(workspace, 'node_modules')
    if (workspace !== '.' && existsSync(join(root, own))) symlinkSync(join(root, own), join(folder, own))
  }
  return folder
}
