/** Root may read everything: what only others are refused is tried as somebody else. */
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

const NOBODY = 65_534

/** A folder with these files, where that somebody else may go; removed in the end. */
export function openFolder(t: Test, files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-open-'))
  chmodSync(folder, 0o755)
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), content, { mode: 0o644 })
    if (process.getuid?.() === 0) chownSync(join(folder, name), NOBODY, NOBODY)
  }
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Runs `work` without root's powers over files. Nothing else may run beside it. */
export async function unprivileged(work: () => Promise<unknown>): Promise<void> {
  const isRoot = process.geteuid?.() === 0
  if (isRoot) process.seteuid?.(NOBODY)
  try {
    await work()
  } finally {
    if (isRoot) process.seteuid?.(0)
  }
}
