/** Loaded into the instance under test by `--import`: answers its parent what the process holds once garbage is gone. */
import { readdirSync } from 'node:fs'

export interface Held {
  /** Octets: JavaScript’s heap and what hangs on it. */
  readonly heapBytes: number
  readonly rssBytes: number
  /** Open files and sockets. */
  readonly handles: number
}

process.on('message', async () => {
  // Twice: what hangs on the heap is given back in a turn of its own.
  globalThis.gc?.()
  await new Promise(setImmediate)
  globalThis.gc?.()
  const { heapUsed, external, rss } = process.memoryUsage()
  // One of them is the folder that is read.
  const held: Held = {
    heapBytes: heapUsed + external,
    rssBytes: rss,
    handles: readdirSync('/proc/self/fd').length - 1,
  }
  process.send?.(held)
})
process.channel?.unref()
