/**
 * Requests that wait until an upstream of their route has room: first come, first served, each for a limited time.
 * `balancer.ts` lets them in; each is told once, in an event of its own.
 */
import type { Cancel, Clock } from '../time.ts'

export interface Waiter {
  /** There is room now: pick. */
  onTurn(): void
  onWaitedTooLong(): void
}

export class WaitingLine {
  readonly #size: number
  readonly #limitMs: number
  readonly #clock: Clock
  /** Until when each waits, on the clock's monotonic scale; in the order in which they came. */
  readonly #waiters = new Map<Waiter, number>()
  #cancel: Cancel | undefined

  constructor(size: number, limitMs: number, clock: Clock) {
    this.#size = size
    this.#limitMs = limitMs
    this.#clock = clock
  }

  get length(): number {
    return this.#waiters.size
  }

  /** False: the line is full. */
  enter(waiter: Waiter): boolean {
    if (this.#waiters.size >= this.#size) return false
    this.#waiters.set(waiter, this.#clock.monotonic() + this.#limitMs)
    if (this.#cancel === undefined) this.#arm(this.#limitMs)
    return true
  }

  /** Harmless for one that does not wait. */
  leave(waiter: Waiter): void {
    this.#waiters.delete(waiter)
    this.#disarmWhenEmpty()
  }

  /** The one that has waited longest has its turn. */
  admit(): void {
    const [first] = this.#waiters.keys()
    if (first === undefined) return
    this.leave(first)
    first.onTurn()
  }

  #arm(delayMs: number): void {
    this.#cancel = this.#clock.after(delayMs, () => this.#expire())
  }

  #expire(): void {
    this.#cancel = undefined
    const now = this.#clock.monotonic()
    for (const [waiter, until] of this.#waiters) {
      if (until > now) {
        this.#arm(until - now)
        return
      }
      this.#waiters.delete(waiter)
      waiter.onWaitedTooLong()
    }
  }

  #disarmWhenEmpty(): void {
    if (this.#waiters.size > 0) return
    this.#cancel?.()
    this.#cancel = undefined
  }
}
