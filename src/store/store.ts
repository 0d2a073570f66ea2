/** SEAM: where Holdfast keeps what must survive a restart. Adapters: `fs.ts`, `redis.ts`. */

/** A lease on a name: held until released, or until it is not renewed for its ttl. */
export interface Lease {
  /** Aborts when the lease was lost (the store was out of reach for longer than the ttl). Stop the work then. */
  readonly lost: AbortSignal
  /** Idempotent. Never throws: a lease that cannot be released expires. */
  release(): Promise<void>
}

/**
 * Bytes by key. A key is a path of `/`-separated segments matching `[A-Za-z0-9._~%@+-]+`, none of them `.` or `..`.
 *
 * Contract (`test/store/contract.ts` holds every adapter to it):
 * - `write` is atomic and durable: a reader sees the old bytes or the new ones whole, also after `kill -9` or power loss.
 * - `read` of an absent key is `undefined`; `remove` of one does nothing.
 * - `list(prefix)` gives every key that starts with `prefix`, sorted.
 * - Failure of the medium is a `StoreError` that says what to do.
 */
export interface Store {
  read(key: string): Promise<Buffer | undefined>
  write(key: string, value: Buffer): Promise<void>
  remove(key: string): Promise<void>
  list(prefix: string): Promise<string[]>
  /**
   * Waits until it holds the lease; rejects with the signal's reason. The holder renews it by itself well inside
   * `ttlMs`; a crashed holder's lease is free after `ttlMs` at the latest (at once where the crash can be told).
   */
  lock(name: string, ttlMs: number, signal: AbortSignal): Promise<Lease>
  /** Lets go of connections and watches; of a store from `open.ts`, once what is under way has ended. No call may follow. */
  close(): Promise<void>
}
