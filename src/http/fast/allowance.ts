/** What costs a peer little and us much: so many times at once, and more as time passes. */
import { SECOND } from '../../time.ts'

export class Allowance {
  readonly #size: number
  readonly #perSecond: number
  #left: number
  #at: number

  /** Times are those of `Deadlines.now`. */
  constructor(size: number, perSecond: number, now: number) {
    this.#size = size
    this.#perSecond = perSecond
    this.#left = size
    this.#at = now
  }

  /** Counts one; false: it is one too many. */
  take(now: number): boolean {
    const refill = ((now - this.#at) / SECOND) * this.#perSecond
    this.#left = Math.min(this.#size, this.#left + refill) - 1
    this.#at = now
    return this.#left >= 0
  }
}
