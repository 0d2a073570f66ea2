/**
 * How a lease is waited for, kept alive, and noticed to be lost: the same for every adapter, which brings only the
 * three primitives of its medium. Serves `file-locks.ts` and `redis.ts`.
 */
import { StoreError } from '../errors.ts'
import { type Cancel, type Clock, sleep } from '../time.ts'
import type { Lease } from './store.ts'

/** What an adapter holds once it has the lease. */
export interface Hold {
  /** For another ttl from now. False: it is no longer ours, for good. Rejects: it cannot be told. */
  renew(): Promise<boolean>
  /** Harmless when it is somebody else's by now. */
  release(): Promise<void>
}

const POLL_MS = 200

/**
 * Tries until it holds the lease. Rejects with the signal's reason, or with what `attempt` rejects with.
 * @param attempt takes the lease if it is free, for `ttlMs` from the moment it is called; undefined: it is not
 */
export async function waitForLease(
  clock: Clock,
  name: string,
  ttlMs: number,
  signal: AbortSignal,
  attempt: () => Promise<Hold | undefined>,
): Promise<Lease> {
  for (;;) {
    signal.throwIfAborted()
    const askedAt = clock.monotonic()
    const hold = await attempt()
    if (hold !== undefined) {
      const lease = new KeptLease(clock, name, ttlMs, hold, askedAt)
      if (!signal.aborted) return lease
      await lease.release()
    }
    // Jitter, so that those who met once do not meet again.
    await sleep(clock, POLL_MS * (0.5 + Math.random()), signal)
  }
}

class KeptLease implements Lease {
  readonly #clock: Clock
  readonly #name: string
  readonly #ttlMs: number
  readonly #hold: Hold
  readonly #loss = new AbortController()
  #cancelExpiry: Cancel = () => {}
  #cancelBeat: Cancel = () => {}
  #released: Promise<void> | undefined

  constructor(clock: Clock, name: string, ttlMs: number, hold: Hold, heldSince: number) {
    this.#clock = clock
    this.#name = name
    this.#ttlMs = ttlMs
    this.#hold = hold
    this.#extend(heldSince)
    this.#scheduleBeat()
  }

  get lost(): AbortSignal {
    return this.#loss.signal
  }

  release(): Promise<void> {
    this.#released ??= this.#letGo()
    return this.#released
  }

  async #letGo(): Promise<void> {
    this.#stop()
    await this.#hold.release().catch(() => {})
  }

  #scheduleBeat(): void {
    this.#cancelBeat = this.#clock.after(this.#ttlMs / 3, () => void this.#beat())
  }

  async #beat(): Promise<void> {
    const askedAt = this.#clock.monotonic()
    // Out of reach is not lost yet: the expiry decides.
    const held = await this.#hold.renew().catch(() => undefined)
    if (this.#released !== undefined || this.#loss.signal.aborted) return
    if (held === false) return this.#lose('it is gone, or somebody else took it over')
    if (held) this.#extend(askedAt)
    this.#scheduleBeat()
  }

  /** From the moment the store was asked, not from its answer: others may count from there. */
  #extend(askedAt: number): void {
    this.#cancelExpiry()
    const leftMs = askedAt + this.#ttlMs - this.#clock.monotonic()
    this.#cancelExpiry = this.#clock.after(leftMs, () => this.#lose('it could not be renewed in time'))
  }

  #lose(why: string): void {
    this.#stop()
    this.#loss.abort(new StoreError('LOCK_LOST', `The lock on ${this.#name} was lost: ${why}`))
  }

  #stop(): void {
    this.#cancelBeat()
    this.#cancelExpiry()
  }
}
