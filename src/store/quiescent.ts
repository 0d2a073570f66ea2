/**
 * A `Store` that comes to rest when it is closed: `close` waits for what is under way, and nothing can be written after
 * it. Work that was given up (a deadline passed, a stop came) goes on for a moment beside whoever gave it up; it must not
 * write into a folder that the next process, or nobody, owns by then. `open.ts` puts it around every adapter.
 */
import { StoreError } from '../errors.ts'
import { type Clock, SECOND, withDeadline } from '../time.ts'
import type { Lease, Store } from './store.ts'

/** Work under a lease takes moments; a medium that hangs must not hold up a stop. */
const LONGEST_CLOSE_MS = 5 * SECOND

export class QuiescentStore implements Store {
  readonly #store: Store
  readonly #clock: Clock
  /** Calls that have not come back and leases that are held. */
  readonly #pending = new Set<Promise<unknown>>()
  #isClosed = false

  constructor(store: Store, clock: Clock) {
    this.#store = store
    this.#clock = clock
  }

  read(key: string): Promise<Buffer | undefined> {
    return this.#run(() => this.#store.read(key))
  }

  write(key: string, value: Buffer): Promise<void> {
    return this.#run(() => this.#store.write(key, value))
  }

  remove(key: string): Promise<void> {
    return this.#run(() => this.#store.remove(key))
  }

  list(prefix: string): Promise<string[]> {
    return this.#run(() => this.#store.list(prefix))
  }

  async lock(name: string, ttlMs: number, signal: AbortSignal): Promise<Lease> {
    const lease = await this.#run(() => this.#store.lock(name, ttlMs, signal))
    const { promise: released, resolve } = Promise.withResolvers<void>()
    void this.#track(released)
    return { lost: lease.lost, release: () => lease.release().finally(resolve) }
  }

  async close(): Promise<void> {
    try {
      await withDeadline(this.#clock, LONGEST_CLOSE_MS, 'closing the store', undefined, () => this.#settle())
    } catch {
      // What still hangs is left to its medium: a lease expires, a write is whole or absent.
    }
    this.#isClosed = true
    await this.#store.close()
  }

  /** What ends may begin something else, as the write that follows a read. */
  async #settle(): Promise<void> {
    while (this.#pending.size > 0) await Promise.allSettled(this.#pending)
  }

  #run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isClosed) return Promise.reject(new StoreError('STORE_UNAVAILABLE', 'The store is closed'))
    return this.#track(work())
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#pending.add(work)
    const done = (): void => void this.#pending.delete(work)
    work.then(done, done)
    return work
  }
}
