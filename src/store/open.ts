/** From the config's `store` to the adapter that it names. Serves `server.ts` and the commands. */
import { resolve } from 'node:path'
import type { Log } from '../log.ts'
import { type Clock, SystemClock } from '../time.ts'
import { openFileStore } from './fs.ts'
import { QuiescentStore } from './quiescent.ts'
import type { Store } from './store.ts'

/**
 * @param url `file:` and a path, `redis://…` or `rediss://…`; the config schema has checked its form
 * @param baseDir the config file's folder: where relative paths begin
 * @throws StoreError when it cannot be written or reached; it never quotes a password
 */
export async function openStore(
  url: string,
  baseDir: string,
  log: Log,
  clock: Clock = new SystemClock(),
): Promise<Store> {
  return new QuiescentStore(await openAdapter(url, baseDir, log, clock), clock)
}

async function openAdapter(url: string, baseDir: string, log: Log, clock: Clock): Promise<Store> {
  if (url.startsWith('file:')) return openFileStore(resolve(baseDir, url.slice('file:'.length)), log, clock)
  // Its client takes 20 MB of memory.
  const { openRedisStore } = await import('./redis.ts')
  return openRedisStore(url, log, clock)
}
