/** Notices silence: a peer that has not sent or taken anything for too long. For every engine that carries octets. */
import type { Cancel, Clock } from './time.ts'

export class IdleTimer {
  readonly #clock: Clock
  readonly #limitMs: number
  readonly #onIdle: () => void
  #touchedAt: number
  #cancel: Cancel

  /** Runs from the start, and calls `onIdle` whenever nothing has touched it for `limitMs`, until it is stopped. */
  constructor(clock: Clock, limitMs: number, onIdle: () => void) {
    this.#clock = clock
    this.#limitMs = limitMs
    this.#onIdle = onIdle
    this.#touchedAt = clock.monotonic()
    this.#cancel = this.#arm(limitMs)
  }

  /** Cheap enough for every piece of a body: it reads the clock and sets no timer. */
  touch(): void {
    this.#touchedAt = this.#clock.monotonic()
  }

  stop(): void {
    this.#cancel()
  }

  #arm(delayMs: number): Cancel {
    return this.#clock.after(delayMs, () => {
      const leftMs = this.#touchedAt + this.#limitMs - this.#clock.monotonic()
      this.#cancel = this.#arm(leftMs > 0 ? leftMs : this.#limitMs)
      if (leftMs <= 0) this.#onIdle()
    })
  }
}
