/** Places for unix sockets: a test's own folder may have a longer path than a socket can have. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

/** Where a socket may be, until the test is over. */
export function socketPath(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'app.sock')
}
