/** Clocks, leases and `AbortSignal.timeout` keep no process alive; a test that waits for nothing else has to. */
import type { Test } from 'tap'

export function keepAlive(t: Test): void {
  const timer = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(timer))
}
